"""The YAML of a suite file: words, numbers, lists and mappings, and nothing that means more.

Read by YAML's rules, less what surprises: no aliases, tags or merged keys, no key twice, no dates, no
`yes` for true, no octal or base-60 numbers. A key is a text, however it looks.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from micl_bench.runtime.log import printable

_DEEPEST = 20
_LONGEST_NUMBER = 40
_SHOWN = 60
_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_WORDS = {"true": True, "True": True, "false": False, "False": False}
_NOTHING = ("", "~", "null", "Null", "NULL")


class UnreadableError(ValueError):
    """A text is not of this kind; the message says where and why, without naming the file."""


def parsed(text: str) -> Any:
    """Read a text: None, bool, int, float, str, and lists and mappings of them.

    Raises:
        UnreadableError: it is not YAML, or has more than is described above.
    """
    reader = None
    try:
        reader = _Reader(text)
        node = reader.get_single_node()
    except yaml.reader.ReaderError as error:
        code: Any = error.character
        number = code if isinstance(code, int) else ord(code[:1])
        raise UnreadableError(f"it has the character U+{number:04X}") from error
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(_where(text, error)) from error
    finally:
        if reader:
            reader.dispose()
    return None if node is None else _value(node)


def assigned(content: dict[str, Any], assignment: str, whole: Sequence[str]) -> None:
    """Put `a.b=value` into a mapping of mappings; a name that is there may itself have dots.

    Args:
        whole: names below which the rest of the key is one name.

    Raises:
        UnreadableError: no `=`, a value that is no YAML, or a name below something that is no mapping.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not all(key.split(".")):
        raise UnreadableError(f"{assignment[:_SHOWN]!r} is not of the form key=value")
    value = parsed(text) if text.strip() else ""
    place, parts = content, key.split(".")
    while len(parts) > 1:
        lengths = range(len(parts), 0, -1)
        length = next((n for n in lengths if ".".join(parts[:n]) in place), 1)
        name, parts = ".".join(parts[:length]), parts[length:]
        if not parts:
            parts = [name]
            break
        if name in whole:
            parts = [".".join(parts)]
        below = place.setdefault(name, {})
        if not isinstance(below, dict):
            raise UnreadableError(f"{name!r} is no mapping, so there is no {key[:_SHOWN]!r}")
        place = below
    place[parts[0]] = value


class _Reader(yaml.SafeLoader):
    """Nodes of plain YAML, with a bound on how deep they lie."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise UnreadableError(
                f"line {line} has a YAML alias or anchor (*name, &name); write the value itself"
            )
        if event.tag is not None:
            raise UnreadableError(
                f"line {line} has a YAML tag (!name); write plain words and numbers"
            )
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnreadableError(f"line {line} is nested more than {_DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(inner) for inner in node.value]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node)
    found: dict[str, Any] = {}
    for key, inner in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UnreadableError(f"line {line} has a list or a mapping for a key; write a word")
        if key.value in found:
            raise UnreadableError(f"line {line} has the key {key.value[:_SHOWN]!r} a second time")
        found[key.value] = _value(inner)
    return found


def _scalar(node: yaml.Node) -> Any:
    text: str = node.value
    if node.style is not None:
        return text  # In quotes, or a block.
    if text in _NOTHING:
        return None
    if text in _WORDS:
        return _WORDS[text]
    if _NO_NUMBER.fullmatch(text) or (_NUMBER.fullmatch(text) and math.isinf(float(text))):
        raise UnreadableError(
            f"line {node.start_mark.line + 1} has {text[:_SHOWN]}, which is no number"
        )
    if len(text) <= _LONGEST_NUMBER and _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _where(text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return "it is no YAML"
    lines = text.splitlines() or [""]
    line = lines[min(mark.line, len(lines) - 1)]
    if "\t" in line[: mark.column + 1]:
        return f"line {mark.line + 1} has a tab; YAML takes spaces"
    shown = printable(line.strip())[:_SHOWN]
    return f"line {mark.line + 1}, column {mark.column + 1} is no YAML: {shown!r}"
