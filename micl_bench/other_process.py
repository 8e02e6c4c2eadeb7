"""Work that goes on in another process meanwhile."""

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def in_other_process(work: Callable[[], T]) -> Callable[[], T]:
    """Begin some work in a copy of this process; calling what is returned waits for its result.

    What the work raises is raised by that call. Where processes cannot be copied safely, the work is
    done when it is asked for.
    """
    if sys.platform != "linux":
        return work
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()

    def result() -> T:
        try:
            is_done, found = ours.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"the other process ended with {process.exitcode}") from None
        process.join()
        if not is_done:
            raise found
        return found

    return result


def _answer(work: Callable[[], object], pipe: Connection) -> None:
    try:
        answer = True, work()
    except Exception as error:
        answer = False, error
    pipe.send(answer)
