"""Commands that are killed at drawn moments and called again end as if nothing had happened.

Each story's moments are drawn by its case and number, so that one that fails can be made again by
itself: `pytest tests/long/test_kills.py -k report-1`. Half of the moments are times, which also come in
the middle of a step; the others are changes to the disk, which are few and matter most.
"""

import dataclasses
import functools
import json
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kills import Forked, content, forked, needs_proc, no_trace, temporaries
from support import REPOSITORY

sys.path.append(str(REPOSITORY / "tests" / "openmmlab"))
from dense_runs import write_config

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), needs_proc]

KILLS_A_STORY = 2
SIGNALS = [signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGINT]
VIT = "random:vit_demo_patch4_32"
EVAL = f"--checkpoint {VIT} --data {{few}} --out out --recipe {{downstream}}"


@dataclasses.dataclass(frozen=True)
class Case:
    """A command that writes `out`."""

    words: str
    sets: str = ""
    stories: int = 3
    before: str = ""
    """What made the `out` that it replaces."""
    at_once: bool = False
    """Whether `out` is there whole or not at all, not one whole file after the other."""


CASES = {
    "pretrain": Case(
        "pretrain {pretrain}/embedded.py --data {few} --out out",
        "batch_size=16 epochs=2 knn_every_epochs=1 save_every_steps=2 knn_k=5 optim.warmup_epochs=1",
    ),
    "pretrain mae": Case(
        "pretrain {pretrain}/embedded_mae.py --data {few} --out out",
        "batch_size=16 epochs=2 knn_every_epochs=1 save_every_steps=2 knn_k=5 optim.warmup_epochs=1",
        stories=10,
    ),
    "pretrain simclr": Case(
        "pretrain {pretrain}/embedded_simclr.py --data {few} --out out",
        "batch_size=16 epochs=2 knn_every_epochs=1 save_every_steps=2 knn_k=5 optim.warmup_epochs=1",
        stories=10,
    ),
    "finetune": Case(
        f"eval finetune {EVAL}/embedded_finetune.py",
        "training.batch_size=16 training.epochs=2 save_every_steps=2",
    ),
    "linear": Case(
        f"eval linear {EVAL}/embedded_linear.py",
        "probe.epochs=20 probe.warmup_epochs=2 probe.batch_size=16 save_every_steps=20",
    ),
    "knn of several k": Case(f"eval knn {EVAL}/embedded_knn.py", "ks=[3,5]", stories=2),
    "pack": Case(
        "data pack --images {digits} --out out --layout image --size 32 --workers 1", stories=2
    ),
    "pack by two": Case(
        "data pack --images {digits} --out out --layout patch --size 32 --patch-size 4 --workers 2",
        stories=1,
    ),
    "data embedded": Case("data embedded --out out", stories=2, at_once=True),
    "features": Case(
        f"features --checkpoint {VIT} --images {{few}}/val --out out", stories=2, at_once=True
    ),
    "features over others": Case(
        f"features --checkpoint {VIT} --images {{few}}/val --out out",
        before=f"features --checkpoint {VIT} --images {{few}}/train --out out",
        at_once=True,
        stories=1,
    ),
    "convert": Case(f"convert {VIT} --to timm --out out", stories=2, at_once=True),
    "convert to safetensors": Case(
        f"convert {VIT} --to safetensors --out out/one.safetensors", stories=2, at_once=True
    ),
    "report": Case("report --results {results} --out out", at_once=True, stories=2),
    "report over another": Case(
        "report --results {results} --out out",
        before="report --results {results}/linear --out out",
        at_once=True,
        stories=4,
    ),
    "suite": Case("suite run {suite} --out out", stories=2),
    "segmentation": Case(
        f"eval ade20k --checkpoint {VIT} --recipe {{upernet}} --data {{digits}}-ade20k --out out",
        stories=1,
    ),
}
STORIES = [(name, number) for name, case in CASES.items() for number in range(case.stories)]

SUITE = """
data: {few}
checkpoints:
  MiCL:
    recipe: {pretrain}/embedded.py
    data: {few}
    overrides: [epochs=2, batch_size=40, knn_every_epochs=0, save_every_steps=1, optim.warmup_epochs=0]
  random weights: {vit}
entries:
  - {{name: knn, task: knn, recipe: {downstream}/embedded_knn.py, overrides: ['ks=[5]']}}
"""

# What the clock, the moment or the machine gave, of which equal runs differ.
MEASURED = {"id", "records", "start", "seconds", "seconds_left", "device_hours", "data_wait"}
MEASURED |= {"images_per_second", "mfu", "peak_memory_mib", "read", "attempt"}
HELPS_TO_GO_ON = re.compile(
    r"(^|/)(states|events|\.claims)/|(^|/)(log\.txt|openmmlab\.log|\.[^/]*)$"
)
GROWS = re.compile(r"(^|/)(metrics\.jsonl|run\.json|recipe\.json|plans/.*)$")
RECORD = re.compile(r"-[0-9a-f]{10}\.json$")


def settled(root: Path, *left_out: re.Pattern[str]) -> dict[str, Any]:
    """Files by name, without what only helps to go on and what a clock gave."""
    found = {}
    for name, value in content(root).items():
        if any(pattern.search(name) for pattern in (HELPS_TO_GO_ON, *left_out)):
            continue
        kept = without_measured(name, value)
        if record := RECORD.search(name):
            # Its name has a digest of its times too.
            name = f"{name[: record.start()]}-{kept['fingerprint']}.json"
        found[name] = kept
    return found


def without_measured(name: str, value: bytes) -> Any:
    if name.endswith("config.py"):
        return re.sub(rb"experiment_name = .*", b"", value)
    if not name.endswith((".json", ".jsonl")):
        return value
    if name.endswith(".json"):
        return strip(json.loads(value))
    return [strip(json.loads(line)) for line in value.splitlines()]


def strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: strip(one) for key, one in value.items() if key not in MEASURED}
    return [strip(one) for one in value] if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class Whole:
    """What an undisturbed command did."""

    folder: Path
    words: list[str]
    ran: Forked
    before: Path | None
    """A folder with the `out` that is replaced."""


Undisturbed = Callable[[str], Whole]


def run(words: list[str], folder: Path, **moment: Any) -> Forked:
    """Run in a folder of its own, with a cache of its own."""
    return forked(words, cwd=folder, environment={"MICL_BENCH_CACHE": f"{folder}/cache"}, **moment)


@pytest.fixture(scope="module")
def undisturbed(
    embedded: Path, few_digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """By a case's name; each is run once."""
    places = {"few": few_digits, "digits": embedded / "embedded"}
    places |= {name: REPOSITORY / name for name in ("pretrain", "downstream")}

    def made(words: str, sets: str = "") -> tuple[Path, list[str], Forked]:
        folder = tmp_path_factory.mktemp("whole")
        arguments = [word.format(**places) for word in words.split()]
        arguments += [word for value in sets.split() for word in ("--set", value)]
        ran = run(arguments, folder)
        assert ran.done.returncode == 0, ran.done.stderr
        return folder, arguments, ran

    @functools.cache
    def whole(name: str) -> Whole:
        case = CASES[name]
        folder = tmp_path_factory.mktemp("inputs")
        if name.startswith("report"):
            for task in ("pretrain", "linear"):
                shutil.copytree(whole(task).folder / "out", folder / task)
            places["results"] = folder
        if name == "suite":
            places["suite"] = folder / "suite.yaml"
            places["suite"].write_text(SUITE.format(**places, vit=VIT))
        if name == "segmentation":
            pytest.importorskip("mmseg")
            places["upernet"] = write_config(folder / "config.py", "ade20k")
        before = made(case.before)[0] if case.before else None
        return Whole(*made(case.words, case.sets), before)

    return whole


@pytest.mark.parametrize(("name", "number"), STORIES, ids=[f"{a}-{b}" for a, b in STORIES])
def test_killed_at_drawn_moments_it_ends_as_if_nothing_had_happened(
    undisturbed: Undisturbed, tmp_path: Path, name: str, number: int
) -> None:
    case, whole = CASES[name], undisturbed(name)
    folder, drawn = tmp_path / "work", random.Random(f"{name} {number}")
    shutil.copytree(whole.before, folder) if whole.before else folder.mkdir()
    share = 1.0
    for kill in range(KILLS_A_STORY):
        # The first kills of a case's stories are spread over its whole life, the second over the rest.
        start, length = (number / case.stories, 1 / case.stories) if kill == 0 else (0.0, 1 - share)
        share = start + length * drawn.random()
        signal_number = drawn.choice(SIGNALS)
        moment: dict[str, Any] = {"number": signal_number}
        if (number + kill) % 2:
            moment |= {
                "after": share * whole.ran.seconds,
                "whole_group": signal_number == signal.SIGINT,
            }
        else:
            moment["at_change"] = 1 + int(share * whole.ran.changes)
        struck = run(whole.words, folder, **moment)
        print(f"{moment}: {struck}")
        # A time may come too late, and so may what follows another kill.
        assert kill or struck.changes >= moment.get("at_change", 0)
        require_tidy(struck, signal_number)
        require_never_half(case, whole, folder)
    last = run(whole.words, folder)
    assert last.done.returncode == 0, last.done.stderr
    assert last.left == []
    assert settled(folder) == settled(whole.folder)
    assert temporaries(folder) == []


def require_tidy(struck: Forked, number: signal.Signals) -> None:
    assert struck.left == []
    # 0: it came too late, or the command saved what it had, and left.
    codes = {-number, 0} if number != signal.SIGINT else {130, 0}
    assert struck.done.returncode in codes, struck.done.stderr
    assert no_trace(struck.done), struck.done.stderr


def require_never_half(case: Case, whole: Whole, folder: Path) -> None:
    """What is there under its own name is what an undisturbed command writes, or what was there."""
    new = settled(whole.folder / "out")
    old = settled(whole.before / "out") if whole.before else {}
    if case.at_once:
        found = settled(folder / "out")
        if not found:
            # Between two renames, the old one is kept under another name.
            (found,) = map(settled, folder.glob(".out.*.old.*")) if old else ({},)
        assert found in (old, new)
        return
    packing = {journal.parent for journal in (folder / "out").rglob("journal.jsonl")}
    for name, value in settled(folder / "out", GROWS).items():
        if (folder / "out" / name).parent not in packing:
            assert value == new.get(name), f"{name} is half"
