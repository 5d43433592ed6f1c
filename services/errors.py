"""The error that is reported to the operator without a stack trace."""


class OperatorError(Exception):
    """A problem that the operator can fix, or several; the message is sufficient, and contains no secret.

    Each argument is said in a line.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))
