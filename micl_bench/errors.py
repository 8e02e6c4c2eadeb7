"""The one exception that stands for a mistake the user can mend."""


class InputError(ValueError):
    """Bad input: the message says what was given, what is allowed and how to mend it.

    The command line prints it as one line and exits with 2; anything else that is raised is a
    defect of ours and exits with 1.
    """
