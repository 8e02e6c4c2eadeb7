"""`micl-bench`, and `python -m micl_bench`: an interrupt is one line, also while the program loads."""

import os
import signal
import sys


def main() -> None:
    """Load the command line and run it; `cli.app.main` says with which exit codes it ends."""
    # A process that was started with interrupts ignored, as in the background of a script, ignores them.
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:
        signal.signal(signal.SIGINT, _leave)
    from micl_bench.cli import app

    try:
        if heeds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app.main()
    except KeyboardInterrupt:
        # It came in one of the moments that `app.main` does not catch.
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _leave(*_: object) -> None:
    # At once, as there is nothing to tidy: an exception in the middle of an import may be swallowed.
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
