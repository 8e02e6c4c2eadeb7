"""Words of messages fit their numbers."""

import pytest

from micl_bench.runtime.wording import counted, plural


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1_281_167, "1,281,167 files")],
)
def test_a_noun_fits_its_number(number: int, words: str) -> None:
    assert counted(number, "file") == words


@pytest.mark.parametrize(("number", "words"), [(0, "are"), (1, "is"), (2, "are")])
def test_forms_that_take_more_than_an_s_are_given(number: int, words: str) -> None:
    assert plural(number, "is", "are") == words
    assert counted(number, "class", "classes").endswith("class" if number == 1 else "classes")
