"""Whether every run of a suite could begin, looked at before the first one does.

Recipes are code and want torch: all are read by one process of its own, which tells what is wrong.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.wording import counted
from micl_bench.suites.checks import in_one_line
from micl_bench.suites.commands import Process
from micl_bench.suites.run import Recipe, Run
from micl_bench.tasks import PRETRAINING, declared


@dataclasses.dataclass(frozen=True)
class Look:
    """What of a run can be checked without its data and weights."""

    name: str
    task: str
    recipe: str
    """Path; empty for the task's own values."""
    sets: tuple[str, ...]
    arch: str
    checkpoint: str
    """`random:ARCH`, `timm:NAME` or `public:NAME`; empty for a file."""
    pixels: str = ""

    @property
    def asked(self) -> tuple[object, ...]:
        """Equal for runs that one look serves."""
        return dataclasses.astuple(self)[1:]


@in_one_line()
def require_startable(runs: Sequence[Run]) -> None:
    """Raise an InputError where a recipe, an override or the name of an architecture is wrong."""
    looks = list({look.asked: look for look in map(_look, runs) if look}.values())
    if not looks:
        return
    if sys.stderr.isatty():
        # Elsewhere nobody waits, and an error is the only line.
        say(f"looking at the recipes of {counted(len(runs), 'run')}")
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "asked.json", Path(folder) / "told"
        asked.write_text(json.dumps([dataclasses.asdict(look) for look in looks]), encoding="utf-8")
        told.touch()
        command = [sys.executable, "-m", __name__, str(asked), str(told)]
        with (Path(folder) / "said").open("wb") as said, Process(command, output=said) as process:
            code = process.wait()
        lines = told.read_text(encoding="utf-8").splitlines()
    if lines and lines[-1] == "done":
        return
    look = looks[int(lines[0])] if lines else looks[0]
    if len(lines) > 1:
        raise InputError(f"{look.name}: {lines[-1]}")
    end = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    raise InputError(f"{look.name}: reading its recipe {look.recipe} ended with {end}")


def _look(run: Run) -> Look | None:
    """None where there is nothing to look at."""
    if run.task == "data":
        return None
    words = [word for word in run.words if isinstance(word, str)]
    options = list(itertools.pairwise(words))
    recipe = next((str(word.path) for word in run.words if isinstance(word, Recipe)), "")
    named = next((value for flag, value in options if flag == "--checkpoint"), "")
    return Look(
        name=run.name,
        task=run.task,
        recipe=recipe,
        sets=tuple(value for flag, value in options if flag == "--set"),
        arch=next((value for flag, value in options if flag == "--arch"), ""),
        checkpoint=named if ":" in named else "",
        pixels=next((value for flag, value in options if flag == "--pixels"), ""),
    )


def main(asked: Path, told: Path) -> None:
    """Look at what is asked; tell the number of each look, and last what is wrong, or `done`."""
    looks = [Look(**{**raw, "sets": tuple(raw["sets"])}) for raw in json.loads(asked.read_text())]
    for number, look in enumerate(looks):
        told.write_text(f"{number}\n")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                _check(look)
        except InputError as error:
            told.write_text(f"{number}\n{' '.join(str(error).split())}\n", encoding="utf-8")
            return
    told.write_text("done")


def _check(look: Look) -> None:
    from micl_bench.checkpoints import require_names
    from micl_bench.engine.pretraining.recipe import PretrainRecipe
    from micl_bench.runtime.config import resolve
    from micl_bench.tasks._out import recipe_kind

    require_names(look.checkpoint, arch=look.arch, pixels=look.pixels)
    if declared(look.task).from_config:
        _check_config(look)
        return
    of_pretraining = look.task == PRETRAINING.name
    kind: Any = PretrainRecipe if of_pretraining else recipe_kind(look.task)
    recipe = resolve(kind, Path(look.recipe) if look.recipe else None, look.sets)
    if of_pretraining:
        recipe.sized_arch()


def _check_config(look: Look) -> None:
    if not look.recipe:
        raise InputError(f"{look.task} needs an mmengine config as its recipe")
    try:
        from micl_bench.openmmlab import configs
    except InputError:
        # Not installed: the run says so, and the others go on.
        return
    configs.read(Path(look.recipe), look.sets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
