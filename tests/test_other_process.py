import os

import pytest

from micl_bench.errors import InputError
from micl_bench.other_process import in_other_process


def _fail() -> None:
    raise InputError("no such thing")


def test_the_result_comes_from_another_process() -> None:
    assert in_other_process(os.getpid)() != os.getpid()
    assert len(in_other_process(lambda: b"x" * 10_000_000)()) == 10_000_000


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    result = in_other_process(_fail)
    with pytest.raises(InputError, match="no such thing"):
        result()


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        in_other_process(lambda: os._exit(3))()
