"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """Input, settings or files that do not fit.

    The message is one sentence or two: which file, line or field; what was expected; what came.
    The command line prints it alone and exits with status 2.
    """
