"""A large JSON object, entry by entry, in little memory: COCO's training annotations are 450 MB."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

_CHUNK = 1 << 22
_LONGEST = 1 << 26
_AFTER = " \t\r\n,:]}"
_SPACE = re.compile(r"[ \t\r\n]*")


def entries(file: Path) -> Iterator[tuple[str, int | None, Any]]:
    """Key, place and value of all that the file's object holds.

    A list's elements come one at a time, each with its place; what is no list has None for it.

    Raises:
        ValueError: the file is no JSON object in UTF-8, is cut short, has a key twice, or an element
            is nested too deeply or longer than 64 Mi characters.
        OSError: it cannot be read.
    """
    with file.open(encoding="utf-8") as opened:
        text = _Text(opened)
        try:
            yield from _entries(text)
        except UnicodeDecodeError as error:
            raise ValueError("it is not UTF-8") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


def _entries(text: "_Text") -> Iterator[tuple[str, int | None, Any]]:
    seen: set[str] = set()
    text.take("{")
    while not text.takes("}"):
        key = text.value()
        if not isinstance(key, str) or key in seen:
            raise ValueError("a key that is no string" if key not in seen else f"{key!r} twice")
        seen.add(key)
        text.take(":")
        if text.takes("["):
            number = 0
            while not text.takes("]"):
                yield key, number, text.value()
                number += 1
                if text.next() != "]":
                    text.take(",")
        else:
            yield key, None, text.value()
        if text.next() != "}":
            text.take(",")
    if rest := text.next():
        raise ValueError(f"{rest!r} after its end")


class _Text:
    """What was read of a file and not yet used."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0
        self._decode = json.JSONDecoder(parse_constant=_no_number).raw_decode

    def next(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def takes(self, character: str) -> bool:
        """Whether it is next; then it is used up."""
        if self.next() != character:
            return False
        self._at += 1
        return True

    def take(self, character: str) -> None:
        if not self.takes(character):
            raise ValueError(
                f"{character!r} expected, not {self.next() or 'the end of the file'!r}"
            )

    def value(self) -> Any:
        """The next value; read further until it is whole."""
        self.next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _LONGEST or not self._more():
                    # Without the place, which is one in what was read last.
                    shown = self._text[self._at : self._at + 40]
                    raise ValueError(f"{error.msg} in what begins with {shown!r}") from error
                continue
            # What was read can end in the middle of a number.
            whole = self._text[end : end + 1] in _AFTER and end < len(self._text)
            if not whole and len(self._text) - self._at <= _LONGEST and self._more():
                continue
            self._at = end
            return value

    def _more(self) -> bool:
        read = self._file.read(_CHUNK)
        self._text, self._at = self._text[self._at :] + read, 0
        return bool(read)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON's")
