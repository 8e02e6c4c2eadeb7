"""Words, tables and lists for people: aligned, whole in a pipe, folded to a terminal, harmless."""

import io
import sys

import pytest

from micl_bench.runtime.terminal import columns_text, table_text
from micl_bench.runtime.wording import counted, plural


def test_words_begin_at_the_left_and_numbers_end_at_the_right() -> None:
    assert table_text(
        ("name", "x", "why"), [("a", "1.0", "b"), ("longer", "10.0", "")], words=(0, 2)
    ) == ("name       x  why\n─────────────────\na        1.0  b\nlonger  10.0")


def test_names_line_up_with_what_they_are() -> None:
    assert columns_text([("a", "1"), ("longer", "2")], indent=2) == "  a       1\n  longer  2"
    assert columns_text([]) == ""


def test_a_pipe_gets_every_line_whole() -> None:
    line = "x" * 3000
    assert table_text(("a",), [(line,)]).splitlines()[2] == line


def test_a_terminal_gets_lines_of_its_width_and_all_that_is_in_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    text = columns_text([("name", "x" * 100)], indent=2)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("x") == 100


def test_names_are_neither_markup_nor_control_sequences() -> None:
    assert table_text(("a",), [("[red]x\x1b[2J",)]).splitlines()[2] == "[red]x?[2J"


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
