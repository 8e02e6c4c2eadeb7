"""What a store's files say of runs: whatever clocks do, and whatever has happened to the files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY

from micl_bench.cli.app import run
from micl_bench.records.plans import plan_path, read_plans
from micl_bench.suites import runs as suite_runs
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Run
from micl_bench.suites.runs import Runner
from micl_bench.suites.state import States, read_note

FUTURE = 4_000_000_000


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    path = tmp_path / "suite.yaml"
    recipe = REPOSITORY / "downstream" / "embedded_linear.py"
    path.write_text(
        f"{{task: linear, data: d, recipe: {recipe}, "
        "checkpoints: {m: random:vit_demo_patch4_32}, entries: [{name: n}]}"
    )
    return expand(read_file(path))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every run fails at once; gives the logs of those that were tried."""
    found: list[str] = []

    def fails(call: Any, arguments: list[str], log: Path, *_: Any, **__: Any) -> tuple[int, str]:
        found.append(str(log))
        return 2, "error: it fails"

    monkeypatch.setattr(suite_runs, "execute", fails)
    return found


def note_of(runs: list[Run], store: Path) -> Path:
    return store / runs[0].folder / "run.json"


def without_attempt(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["attempt"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "happens",
    [
        lambda path: os.utime(path, (FUTURE, FUTURE)),
        lambda path: [os.utime(one, (FUTURE, FUTURE)) for one in path.parents[3].rglob("*")],
        lambda path: os.utime(path, (0, 0)),
        without_attempt,
        lambda path: None,
    ],
    ids=["note of the future", "store of the future", "note of 1970", "older version", "nothing"],
)
def test_a_failed_run_is_tried_again_whatever_clocks_say(
    runs: list[Run], tried: list[str], tmp_path: Path, happens: Callable[[Path], object]
) -> None:
    store = tmp_path / "store"
    for attempt in (1, 2, 3):
        (outcome,) = Runner(run, "s", runs, store).run()
        assert "it fails" in outcome.problem
        assert len(tried) == attempt
        happens(note_of(runs, store))


def test_a_clock_that_runs_back_meanwhile_changes_nothing(
    runs: list[Run], tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    Runner(run, "s", runs, store).run()
    monkeypatch.setattr("time.time", lambda: 1000.0)
    Runner(run, "s", runs, store).run()
    assert len(tried) == 2


def test_what_failed_in_another_suite_meanwhile_is_not_tried_once_more(
    runs: list[Run], tried: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    Runner(run, "s", runs, store).run()

    def other(pending: list[Run]) -> None:
        Runner(run, "other", runs, store).run()
        os.utime(note_of(runs, store), (0, 0))

    (outcome,) = Runner(run, "s", runs, store, first=other).run()
    assert len(tried) == 2
    assert outcome.problem


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("x")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda path: path.write_text("[1]"),
    "a number": lambda path: path.write_text("3"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "huge": lambda path: path.write_bytes(b" " * (65 << 20)),
    "a folder": become_folder,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_note_is_named_and_its_run_goes_on_from_what_it_saved(
    runs: list[Run], tried: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    store = tmp_path / "store"
    Runner(run, "s", runs, store).run()
    note = note_of(runs, store)
    saved = note.parent / "states" / "000100.pt"
    saved.parent.mkdir()
    saved.write_text("a week of work")
    DAMAGE[kind](note)
    assert "damaged" in States(store, runs).of(runs[0]).problem
    capsys.readouterr()
    Runner(run, "s", runs, store).run()
    assert len(tried) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "is damaged (" in line]
    assert len(said) == 1
    assert str(note) in said[0]
    assert saved.read_text() == "a week of work"
    assert read_note(note)["key"] == runs[0].key


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_plan_is_named_and_written_anew(
    runs: list[Run], tried: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    store = tmp_path / "store"
    Runner(run, "s", runs, store).run()
    path = plan_path(store, "s")
    DAMAGE[kind](path)
    capsys.readouterr()
    Runner(run, "s", runs, store).run()
    assert len(tried) == 2
    assert str(path) in capsys.readouterr().err
    ((plan,), damaged) = read_plans(store)
    assert plan.suite == "s"
    assert not damaged
