"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Something the user can mend. The message names the argument, its value and the remedy, in one line.

    The command line prints the message alone and exits with status 2; anything else that escapes is a bug.
    """
