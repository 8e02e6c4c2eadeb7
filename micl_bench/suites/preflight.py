"""Checks that every run of a suite could begin, made before the first one does."""

import dataclasses
import io
import itertools
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.wording import counted
from micl_bench.suites.entries import in_one_line
from micl_bench.suites.run import Recipe, Run
from micl_bench.tasks import PRETRAINING, declared


@dataclasses.dataclass(frozen=True)
class Look:
    """The part of a run that is checked without its data and weights; equal runs share one check."""

    name: str = dataclasses.field(compare=False)
    task: str
    recipe: Path | None
    """None for the task's own values."""
    sets: tuple[str, ...]
    arch: str
    checkpoint: str
    """`random:ARCH`, `timm:NAME` or `public:NAME`; empty for a file."""
    pixels: str = ""


@in_one_line()
def require_startable(runs: Sequence[Run]) -> None:
    """Raise an InputError where a recipe, an override or the name of an architecture is wrong."""
    looks = dict.fromkeys(_look(run) for run in runs if run.task != "data")
    if looks and sys.stderr.isatty():
        # Elsewhere nobody waits, and an error is the only line.
        say(f"looking at the recipes of {counted(len(runs), 'run')}")
    for look in looks:
        try:
            # What a recipe or a library prints is of no use here.
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                check(look)
        except InputError as error:
            raise InputError(f"{look.name}: {error}") from error


def _look(run: Run) -> Look:
    words = [word for word in run.words if isinstance(word, str)]
    options = list(itertools.pairwise(words))
    named = dict(options)
    checkpoint = named.get("--checkpoint", "")
    return Look(
        name=run.name,
        task=run.task,
        recipe=next((word.path for word in run.words if isinstance(word, Recipe)), None),
        sets=tuple(value for flag, value in options if flag == "--set"),
        arch=named.get("--arch", ""),
        checkpoint=checkpoint if ":" in checkpoint else "",
        pixels=named.get("--pixels", ""),
    )


def check(look: Look) -> None:
    """Raise an InputError where a run could not begin."""
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
    recipe = resolve(kind, look.recipe, look.sets)
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
    configs.read(look.recipe, look.sets)
