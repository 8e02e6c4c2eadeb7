"""Batches made ahead: the same ones in the same order, and no thread left behind."""

import gc
import itertools
import threading
from collections.abc import Iterator

import pytest

from micl_bench.data.to_device import prefetch


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert not running()
    yield
    assert not running()


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("number", [0, 1, 5, 100])
def test_batches_keep_their_order(depth: int, number: int) -> None:
    assert list(prefetch(iter(range(number)), depth=depth)) == list(range(number))


def test_anything_can_be_a_batch() -> None:
    odd = [None, False, (), StopIteration, "prefetch"]
    assert list(prefetch(iter(odd))) == odd


def test_prepare_is_applied_in_the_thread() -> None:
    names = set()

    def prepare(batch: int) -> int:
        names.add(threading.current_thread().name)
        return batch * batch

    assert list(prefetch(iter(range(5)), prepare=prepare)) == [0, 1, 4, 9, 16]
    assert names == {"prefetch"}


class BrokenError(Exception):
    pass


def test_an_exception_comes_in_its_place() -> None:
    def batches() -> Iterator[int]:
        yield from range(3)
        raise BrokenError("the fourth")

    ahead = prefetch(batches(), depth=8)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BrokenError, match="the fourth"):
        next(ahead)


def test_an_exception_of_prepare_comes_in_its_place() -> None:
    ahead = prefetch(iter([2, 1, 0, 1]), prepare=lambda batch: 2 // batch)
    assert [next(ahead) for _ in range(2)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_are_made_ahead(depth: int) -> None:
    made = []
    enough = threading.Event()

    def batches() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            if number == depth + 1:
                enough.set()
            yield number

    ahead = prefetch(batches(), depth=depth)
    next(ahead)
    # One is taken, `depth` wait, one is in the thread's hands: nothing lets it begin another.
    assert enough.wait(10)
    assert len(made) == depth + 2
    ahead.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("taken", [1, 3])
def test_leaving_early_ends_the_thread(taken: int) -> None:
    ahead = prefetch(itertools.count())
    assert [next(ahead) for _ in range(taken)] == list(range(taken))
    assert len(running()) == 1
    ahead.close()  # type: ignore[attr-defined]


def test_an_exception_of_the_one_who_takes_ends_the_thread() -> None:
    def take() -> None:
        for batch in prefetch(itertools.count()):
            if batch == 2:
                raise BrokenError

    with pytest.raises(BrokenError):
        take()
    # The traceback that pytest holds has kept the generator.
    gc.collect()


def test_never_begun_there_is_no_thread() -> None:
    prefetch(itertools.count())
    assert not running()
