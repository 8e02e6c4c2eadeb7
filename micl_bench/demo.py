"""The demo: every part of the suite once, through the same commands that real data would use.

<workdir>/data/         the embedded data set
<workdir>/store/        its images packed for pre-training
<workdir>/results/      a folder a stage: records, weights, predictions
<workdir>/report/       report.html, report.md, figures, tables
<workdir>/stages/       what is done: a stage is skipped while its command, recipe and all that
                        it builds on are as they were
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from micl_bench.errors import InputError
from micl_bench.files import atomic_write, digest_file, digest_json
from micl_bench.log import clock, inside, say
from micl_bench.record import read_results

_REPOSITORY = Path(__file__).resolve().parents[1]
_RANDOM = "random:vit_demo_patch4_32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo."""

    name: str
    title: str
    arguments: tuple[str, ...]
    out: Path
    seconds: float
    """About how long on 2 cores of an AMD EPYC (Milan): only for guessing the time left."""
    needs: tuple[str, ...] = ()
    resumes: bool = False
    """Whether the command itself goes on from what it left in `out`."""
    recipe: Path | None = None

    def key(self, keys: dict[str, str]) -> str:
        """Digest of everything that the stage's outcome depends on."""
        recipe = digest_file(self.recipe) if self.recipe else ""
        return digest_json([self.arguments, recipe, [keys[name] for name in self.needs]])


def run_demo(workdir: Path, *, invoke: Callable[[list[str]], None]) -> None:
    """Run what is not done yet, print the table and the path of the report.

    Args:
        invoke: runs one command of `micl-bench` in this process.

    Raises:
        InputError: the recipes are not at hand, or a stage was given bad input.
    """
    if not (_REPOSITORY / "pretrain" / "embedded.py").is_file():
        raise InputError(
            "the demo's recipes are missing: run it from a checkout (pip install -e .)"
        )
    stages = demo_stages(workdir, _REPOSITORY)
    journal = _Journal(workdir / "stages", stages)
    if done := len(stages) - len(journal.due):
        say(f"{done} of {len(stages)} stages are done already")
    journal.open_due()
    while journal.due:
        stage = journal.due[0]
        left = clock(journal.seconds_left())
        say(
            f"\n[{stages.index(stage) + 1}/{len(stages)}] {stage.title}  (about {left} left in all)"
        )
        journal.start(stage)
        with inside(lambda: f"(demo: {clock(journal.seconds_left())} left)"):
            invoke(list(stage.arguments))
        journal.finish(stage)
    _show(workdir)


def demo_stages(workdir: Path, repository: Path) -> list[Stage]:
    """All stages in order."""
    data, store, results, report = (
        workdir / name for name in ("data", "store", "results", "report")
    )
    recipe, pretrained = repository / "pretrain" / "embedded.py", results / "pretrain"
    stages = [
        Stage(
            name="data",
            title="embedded data",
            arguments=("data", "embedded", "--out", str(data)),
            out=data,
            seconds=8,
            resumes=True,
        ),
        Stage(
            name="pack",
            title="packed store",
            arguments=_words(
                "data", "pack", "--images", data / "embedded", "--out", store, *_STORE
            ),
            out=store,
            seconds=3,
            needs=("data",),
            resumes=True,
        ),
        Stage(
            name="pretrain",
            title="pre-training: MiCL",
            arguments=_words("pretrain", recipe, "--data", store, "--out", pretrained),
            out=pretrained,
            seconds=63,
            needs=("pack",),
            resumes=True,
            recipe=recipe,
        ),
    ]
    stages += [_evaluation(workdir, repository / "downstream", *row) for row in _EVALUATIONS]
    return [
        *stages,
        Stage(
            name="report",
            title="report",
            arguments=_words("report", "--results", results, "--out", report),
            out=report,
            seconds=4,
            needs=tuple(stage.name for stage in stages),
        ),
    ]


# What pretrain/embedded.py takes of an image.
_STORE = ("--layout", "patch", "--size", 32, "--patch-size", 4, "--crop-pct", 1)
_METHODS = {"micl": "MiCL", "random": "random weights", "scratch": "from scratch"}
# Task, start, recipe, data folder, seconds.
_EVALUATIONS = (
    ("knn", "micl", "embedded_knn.py", "embedded", 3),
    ("knn", "random", "embedded_knn.py", "embedded", 3),
    ("linear", "micl", "embedded_linear.py", "embedded", 3),
    ("linear", "random", "embedded_linear.py", "embedded", 3),
    ("finetune", "micl", "embedded_finetune.py", "embedded", 16),
    ("finetune", "random", "embedded_finetune.py", "embedded", 16),
    ("finetune", "scratch", "embedded_scratch.py", "embedded", 72),
    ("robustness", "micl", "embedded_robustness.py", "", 2),
    ("robustness", "random", "embedded_robustness.py", "", 2),
    ("robustness", "scratch", "embedded_robustness.py", "", 2),
    ("ade20k", "micl", "embedded_upernet.py", "embedded-ade20k", 34),
    ("ade20k", "random", "embedded_upernet.py", "embedded-ade20k", 34),
    ("coco", "micl", "embedded_mask_rcnn.py", "embedded-coco", 38),
    ("coco", "random", "embedded_mask_rcnn.py", "embedded-coco", 38),
)


def _evaluation(
    workdir: Path, recipes: Path, task: str, start: str, recipe: str, folder: str, seconds: float
) -> Stage:
    results, name = workdir / "results", f"{task}-{start}"
    if task == "robustness":
        checkpoint, made_by = (
            str(results / f"finetune-{start}" / "classifier.pt"),
            f"finetune-{start}",
        )
    elif start == "micl":
        checkpoint, made_by = str(results / "pretrain" / "backbone.pt"), "pretrain"
    else:
        checkpoint, made_by = _RANDOM, "data"
    what = ("--checkpoint", checkpoint, "--recipe", recipes / recipe)
    where = ("--data", workdir / "data" / folder, "--out", results / name)
    return Stage(
        name=name,
        title=f"{task}: {_METHODS[start]}",
        arguments=_words("eval", task, *what, *where, "--method", _METHODS[start]),
        out=results / name,
        seconds=seconds,
        needs=tuple(dict.fromkeys(("data", made_by))),
        recipe=recipes / recipe,
    )


def _words(*arguments: object) -> tuple[str, ...]:
    return tuple(str(argument) for argument in arguments)


class _Journal:
    """Which stages are done, which are due, and how long they may take."""

    def __init__(self, folder: Path, stages: list[Stage]) -> None:
        self._folder, self._started = folder, 0.0
        self._keys: dict[str, str] = {}
        for stage in stages:
            self._keys[stage.name] = stage.key(self._keys)
        self.due: list[Stage] = []
        for stage in stages:
            renewed = {other.name for other in self.due} & set(stage.needs)
            if renewed or not self._is_done(stage):
                self.due.append(stage)
        # How much slower this machine is than the one the guesses are from, by the stages done so
        # far; one guessed stage in advance keeps a short first one from deciding alone.
        self._guessed = self._took = 30.0

    def open_due(self) -> None:
        """Note what is due before any of it runs: a kill in between must not hide that it was.

        Raises:
            InputError: a stage's folder holds something that no stage of this demo made.
        """
        for stage in self.due:
            state = self._read(stage)
            if not state and stage.out.exists():
                raise InputError(f"{stage.out} is not the demo's; give another --workdir")
            self._write(stage, {"key": state.get("key", ""), "done": False})

    def start(self, stage: Stage) -> None:
        """Note that a stage began; what an earlier one left behind goes, unless it resumes."""
        key = self._keys[stage.name]
        if not (stage.resumes and self._read(stage).get("key") == key):
            shutil.rmtree(stage.out, ignore_errors=True)
        self._write(stage, {"key": key, "done": False})
        self._started = time.monotonic()

    def finish(self, stage: Stage) -> None:
        """Note that a stage is done."""
        took = time.monotonic() - self._started
        self._guessed, self._took = self._guessed + stage.seconds, self._took + took
        state = {"key": self._keys[stage.name], "done": True, "seconds": round(took, 1)}
        self._write(stage, state)
        self.due.remove(stage)
        self._started = 0.0

    def seconds_left(self) -> float:
        """A guess for all that is due, the current stage's elapsed time taken off."""
        slowness = self._took / self._guessed
        current = time.monotonic() - self._started if self._started else 0.0
        first, *later = (stage.seconds * slowness for stage in self.due)
        return max(0.0, first - current) + sum(later)

    def _is_done(self, stage: Stage) -> bool:
        state = self._read(stage)
        same = state.get("key") == self._keys[stage.name]
        return bool(same and state.get("done") and stage.out.exists())

    def _read(self, stage: Stage) -> dict[str, object]:
        try:
            content = json.loads((self._folder / f"{stage.name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, stage: Stage, state: dict[str, object]) -> None:
        text = json.dumps(state) + "\n"
        atomic_write(self._folder / f"{stage.name}.json", text.encode())


def _show(workdir: Path) -> None:
    from micl_bench.report import summary_table

    results = [result for _, result in read_results(workdir / "results")]
    print(f"\n{summary_table(results)}\n\nreport: {workdir / 'report' / 'report.html'}")
