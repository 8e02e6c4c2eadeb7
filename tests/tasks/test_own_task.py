"""The task of ten lines in docs/architecture.md, in a folder of plug-ins: from `list` to the report."""

import json
import re
from pathlib import Path

import pytest
from support import REPOSITORY, Run, good, refused, values_in

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
(SHOWN,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# The page's task, with a unit as well.
TASK = SHOWN.replace('title="mean norm"', 'title="mean norm", unit="cd"')


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "own" / "tasks" / "brightness.py"
    path.parent.mkdir(parents=True)
    path.write_text(TASK)
    monkeypatch.setenv("MICL_BENCH_PLUGINS", str(tmp_path / "own"))
    return path


def test_a_task_of_ten_lines_goes_from_list_to_report(
    plugins: Path, micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    assert "mean norm [cd] ↓" in micl_bench("list", "tasks").stdout
    found = {}
    for method, arch in (("MiCL", "vit_demo_patch4_32"), ("rival", "vit_demo_patch4_32")):
        words = ("--checkpoint", f"random:{arch}", "--data", few_digits, "--method", method)
        more = ("--set", "pixels.img_size=32", "--set", f"seed={len(found)}")
        done = micl_bench(
            "eval", "brightness", *words, *more, "--out", tmp_path / "results" / method
        )
        assert done.returncode == 0, done.stderr
    for path in (tmp_path / "results").rglob("brightness-*.json"):
        record = json.loads(path.read_text())
        found[record["method"]] = values_in(record)["norm"]
        assert record["data"]["split"] == "val"
        assert record["checkpoint"]["digest"]
        assert record["settings"]["img_size"] == 32
    best = min(found, key=lambda method: found[method] or 0.0)
    out = tmp_path / "report"
    done = good(micl_bench("report", "--results", tmp_path / "results", "--out", out))
    (table,) = (out / "tables").glob("brightness-*.tex")
    line = next(line for line in table.read_text().splitlines() if best in line)
    assert r"\textbf" in line
    assert "Brightness of features" in (out / "report.html").read_text()
    (path,) = (p for p in (tmp_path / "results").rglob(f"brightness-*{best.lower()}*.json"))
    assert "mean norm [cd]" in micl_bench("explain", path).stdout


def test_a_metric_that_is_not_declared_ends_in_one_line(
    plugins: Path, micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    plugins.write_text(TASK.replace('{"norm"', '{"gloss"'))
    words = ("--checkpoint", "random:vit_demo_patch4_32", "--data", few_digits)
    done = refused(micl_bench("eval", "brightness", *words, "--out", tmp_path / "out"))
    assert "measured 'gloss', which it does not declare; declared: norm" in done.stderr
    assert not list((tmp_path / "out").glob("*.json"))
