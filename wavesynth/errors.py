"""The exception for problems that users can fix."""


class UserError(ValueError):
    """A problem that the user can fix. The message is one line: the argument, its value and the remedy.

    The command line prints the message alone and exits with status 2. Any other exception that escapes is a bug.
    """
