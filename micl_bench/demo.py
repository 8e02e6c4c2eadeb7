"""The demo: every part of the suite once, through the same commands that real data would use.

<workdir>/data/         the embedded data set
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
    data, results = workdir / "data", workdir / "results"
    micl = str(results / "pretrain" / "backbone.pt")
    starts = {"micl": ("MiCL", micl), "random": ("random weights", _RANDOM)}
    stages = [
        Stage(
            name="data",
            title="embedded data",
            arguments=("data", "embedded", "--out", str(data)),
            out=data,
            seconds=8,
            resumes=True,
        )
    ]

    def add(
        kind: str, start: str, title: str, recipe: str, seconds: float, folder: Path, source: str
    ) -> None:
        method = {**{s: m for s, (m, _) in starts.items()}, "scratch": "from scratch"}[start]
        name = f"{kind}-{start}"
        recipe_path = repository / "downstream" / recipe
        needs = ["data"] + (["pretrain"] if source == micl else [])
        if kind == "robustness":
            needs.append(f"finetune-{start}")
        arguments = ("eval", kind, "--checkpoint", source, "--recipe", str(recipe_path))
        places = ("--data", str(folder), "--out", str(results / name), "--method", method)
        stages.append(
            Stage(
                name=name,
                title=f"{title}: {method}",
                arguments=(*arguments, *places),
                out=results / name,
                seconds=seconds,
                needs=tuple(needs),
                recipe=recipe_path,
            )
        )

    recipe = repository / "pretrain" / "embedded.py"
    out = results / "pretrain"
    stages.append(
        Stage(
            name="pretrain",
            title="pre-training: MiCL",
            arguments=(
                "pretrain",
                str(recipe),
                "--data",
                str(data / "embedded"),
                "--out",
                str(out),
            ),
            out=out,
            seconds=150,
            needs=("data",),
            resumes=True,
            recipe=recipe,
        )
    )
    digits = data / "embedded"
    for start, (_, source) in starts.items():
        add("knn", start, "k-NN", "embedded_knn.py", 3, digits, source)
    for start, (_, source) in starts.items():
        add("linear", start, "linear probe", "embedded_linear.py", 4, digits, source)
    for start, (_, source) in starts.items():
        add("finetune", start, "fine-tuning", "embedded_finetune.py", 30, digits, source)
    add("finetune", "scratch", "training", "embedded_scratch.py", 90, digits, _RANDOM)
    for start in (*starts, "scratch"):
        classifier = str(results / f"finetune-{start}" / "classifier.pt")
        add("robustness", start, "robustness", "embedded_robustness.py", 4, data, classifier)
    for start, (_, source) in starts.items():
        scenes = data / "embedded-ade20k"
        add("ade20k", start, "UperNet", "embedded_upernet.py", 40, scenes, source)
    for start, (_, source) in starts.items():
        scenes = data / "embedded-coco"
        add("coco", start, "Mask R-CNN", "embedded_mask_rcnn.py", 40, scenes, source)
    stages.append(
        Stage(
            name="report",
            title="report",
            arguments=("report", "--results", str(results), "--out", str(workdir / "report")),
            out=workdir / "report",
            seconds=10,
            needs=tuple(stage.name for stage in stages),
        )
    )
    return stages


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

    def start(self, stage: Stage) -> None:
        """Note that a stage began; what an unfinished one left behind goes, unless it resumes."""
        state = self._read(stage)
        if not (
            stage.resumes and state.get("key", self._keys[stage.name]) == self._keys[stage.name]
        ):
            shutil.rmtree(stage.out, ignore_errors=True)
        self._write(stage, {"key": self._keys[stage.name], "done": False})
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
