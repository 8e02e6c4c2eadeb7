"""Exceptions that end a command early: a mistake that the user can fix, or a request to stop."""


class InputError(ValueError):
    """Bad input: the message says what was given, what is allowed and how to fix it.

    The command line prints it as one line and exits with 2; anything else that is raised is a
    defect of ours and exits with 1.
    """


class UnstatedError(InputError):
    """Neither the shapes nor the file state the architecture or the pixels; an option would."""


class Stopped(Exception):  # noqa: N818 - an answer to a request, not an error
    """A run was asked to stop by a signal; it saved, and goes on when it is called again."""

    def __init__(self, message: str, *, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
