"""Batches made ahead, in a thread: the training loop finds the next one waiting."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_END = object()
_POLL_SECONDS = 0.1


def prefetch(
    batches: Iterator[T], *, depth: int = 2, prepare: Callable[[T], T] | None = None
) -> Iterator[T]:
    """The same batches in the same order, up to `depth` of them made ahead.

    What the copying and gathering of a batch costs, it costs without Python's lock, beside the
    training step. An exception is raised where its batch would have come.

    Args:
        prepare: applied in the thread, to pin memory for instance.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(item: object) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(prepare(batch) if prepare else batch)
                if left.is_set():
                    return
            put(_END)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        left.set()
        thread.join()
