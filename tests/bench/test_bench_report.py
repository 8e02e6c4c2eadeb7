"""`bench report` measures the report of a store that it makes up, and keeps nothing of it."""

import json
from pathlib import Path

from support import Run


def test_what_it_measured_is_written(micl_bench: Run, tmp_path: Path) -> None:
    sizes = ("--records", 20, "--rounds", 1)
    done = micl_bench("bench", "report", *sizes, "--json", "report.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["benchmark"], content["settings"]) == ("report", {"records": 20, "rounds": 1})
    read, whole = content["results"]
    assert (read["name"], whole["name"]) == ("read", "report")
    assert 0 < read["seconds"] < whole["seconds"]
    assert whole["page_bytes"] > 10_000
    header, *rows, page = done.stdout.splitlines()
    assert header.split() == ["20", "records", "seconds"]
    assert [row.rpartition("  ")[0].strip() for row in rows] == ["read the records", "whole report"]
    assert page == f"the page has {whole['page_bytes'] / 1e6:.2f} MB"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
