"""Files of JSON that are read entry by entry, in pieces that end anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from micl_bench.data import json_stream


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_entries_are_jsons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Against Python's own reading of the whole, in pieces that end anywhere."""
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = {
        "info": {"a": [1, {"b": None}], "é": '"\\]},'},
        "empty": [],
        "list": [1, -2.5e-3, 12345, "x", [], {}, True, [[1, 2], [3]]],
        "number": 120,
        "last": None,
    }
    file = tmp_path / "x.json"
    for indent in (None, 2):
        file.write_text(json.dumps(content, indent=indent), encoding="utf-8")
        found: dict[str, Any] = {"empty": []}
        for key, place, value in json_stream.entries(file):
            if isinstance(content[key], list):
                assert place == len(found.get(key, []))
                found.setdefault(key, []).append(value)
            else:
                found[key] = value
        assert found == content


def test_an_entry_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 10)
    monkeypatch.setattr(json_stream, "_LONGEST", 1 << 12)
    file = tmp_path / "x.json"
    file.write_text('{"images": ["' + "a" * 100_000 + '"]}', encoding="utf-8")
    with pytest.raises(ValueError, match="Unterminated"):
        list(json_stream.entries(file))
