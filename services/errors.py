"""The error that is reported to the operator without a stack trace."""


class OperatorError(Exception):
    """A problem that the operator can fix; the message is sufficient, and contains no secret."""
