"""The one kind of failure that people are told of without a stack."""


class OperatorError(Exception):
    """Something that whoever runs Foldwork can mend; its text is all that they need to see, and holds no secret."""
