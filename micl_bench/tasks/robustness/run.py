"""Robustness: a classifier on shifted test sets, and the drop against the clean set's same classes."""

import dataclasses
import time
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import MOST_HEADERS, Watch, look_at
from micl_bench.data.image_files import class_folders, join_lines
from micl_bench.data.pixels import Pixels
from micl_bench.records.result import Result
from micl_bench.robustness import CleanSet, RobustnessSet, find_set, inspect_set
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, Listed, Precision, Seed, Values, Workers
from micl_bench.runtime.wording import counted
from micl_bench.tasks._request import Request
from micl_bench.tasks.robustness import TASK
from micl_bench.tasks.robustness.scores import (
    CleanRun,
    Measured,
    measure,
    measure_corrupted,
    measure_real,
)
from micl_bench.tasks.robustness.shifted import (
    ASSUMED_BY_NAME,
    Predict,
    Shift,
    match,
    open_classes,
    output_names,
    predictor,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessRecipe(Values):
    """Which sets, and the input."""

    sets: Annotated[tuple[str, ...], Listed(once=True)] = (
        "embedded_a",
        "embedded_r",
        "embedded_sketch",
    )
    """Names that `micl-bench list robustness` shows."""
    pixels: Pixels = Pixels()
    precision: Precision = "fp32"
    allow_partial: bool = False
    """Measure sets that lack images too; their records say how many there were."""
    batch_size: Count = 128
    num_workers: Workers = 0
    seed: Seed = 0
    """Seed of the bootstrap."""


RECIPE = RobustnessRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """Make one record per set: top-1 there, on the clean set's same classes, and the difference."""
    recipe = request.open(RobustnessRecipe)
    checkpoint, root = request.loaded, request.data
    sets = [find_set(name) for name in recipe.sets]
    side = checkpoint.arch.img_size
    if recipe.pixels.img_size != side:
        raise InputError(f"the classifier takes {side} px; give --set pixels.img_size={side}")
    for one in sets:
        _require(one, root, allow_partial=recipe.allow_partial)
    model = checkpoint.classifier().to(request.device)
    outputs, known = _outputs(checkpoint, sets, root)
    shifts = [match(one, root, outputs, source=checkpoint.info.source) for one in sets]
    unchanged = _looked_at(shifts, root)
    predict = predictor(
        model,
        checkpoint,
        device=request.device,
        batch_size=recipe.batch_size,
        num_workers=recipe.num_workers,
    )
    measured, seconds = [], []
    with at_precision(recipe.precision, model, request.device) as watch:
        clean = _run_clean(shifts, predict, recipe.pixels, root)
        for shift in shifts:
            start = time.monotonic()
            measured.append(_measure(shift, clean[shift.one.clean.folder], predict, recipe, root))
            seconds.append(time.monotonic() - start)
        seen = watch.seen()
    unchanged.require_unchanged()
    shared = (request.measurement.elapsed - sum(seconds)) / len(sets)
    results: list[Result] = []
    for shift, found, own in zip(shifts, measured, seconds, strict=True):
        settings = _settings(shift, found, recipe.pixels)
        # The file may not say how its classifier was made.
        settings["classifier"] = checkpoint.maker or "unknown"
        results += request.measure(
            TASK,
            found.metrics,
            protocol=_protocol(shift, settings, recipe.pixels),
            data=found.data,
            settings={**settings, "precision": seen},
            evidence=found.predictions,
            intervals=found.intervals,
            details={
                **found.details,
                "classes": known,
                "clean": dataclasses.asdict(found.clean),
            },
            seconds=own + shared,
            guesses=("the classes of its outputs, in order of their names",)
            if known == ASSUMED_BY_NAME
            else (),
        )
    return results


def _require(one: RobustnessSet, root: Path, *, allow_partial: bool) -> None:
    findings = inspect_set(one, root)
    lines = findings.wrong if allow_partial else [*findings.wrong, *findings.missing]
    if lines:
        fix = (
            ""
            if findings.wrong
            else " (or measure the images that are there: --set allow_partial=true)"
        )
        more = f"; and {counted(len(lines) - 1, 'more finding')}" if len(lines) > 1 else ""
        raise InputError(lines[0] + fix + more)


def _outputs(
    checkpoint: Checkpoint, sets: list[RobustnessSet], root: Path
) -> tuple[tuple[str, ...], str]:
    """Class names of the classifier's outputs, and words on how they are known."""

    def classes_of(clean: CleanSet) -> tuple[str, ...]:
        return clean.classes or class_folders(root / clean.folder)

    classes = {one.clean.folder: classes_of(one.clean) for one in sets}
    if len(set(classes.values())) != 1 and not checkpoint.classes:
        raise InputError("the sets have clean sets of different classes; evaluate them one by one")
    outputs, known = output_names(checkpoint, next(iter(classes.values())))
    for one in sets:
        unknown = sorted(set(classes[one.clean.folder]) - set(outputs))
        if unknown and not one.clean.classes:
            folder = root / one.clean.folder
            raise InputError(f"{folder} has classes unknown in training: {', '.join(unknown[:3])}")
    return outputs, known


def _looked_at(shifts: list[Shift], root: Path) -> Watch:
    """Look at the images of all sets, and say which files of their folders are not read.

    Returns:
        A watch over the images of all sets but corrupted ones, which are millions of files.
    """
    places: dict[Path, tuple[str, ...]] = {}
    for shift in shifts:
        clean = root / shift.one.clean.folder
        own = (shift.outputs[output] for output in shift.own)
        places[clean] = tuple(dict.fromkeys((*places.get(clean, ()), *own)))
        if shift.one.folder != shift.one.clean.folder:
            places |= {root / part: shift.folders for part in shift.one.parts}
    corrupted = {root / part for s in shifts if s.one.corruptions for part in s.one.parts}
    kept, lines = [], []
    for place, names in places.items():
        folder = open_classes(place, names)
        lines.append(folder.left_out)
        look_at(folder, most=MOST_HEADERS // (len(corrupted) if place in corrupted else 1))
        kept += [] if place in corrupted else [folder]
    # Once, where all 75 parts leave the same out.
    if left_out := join_lines(lines):
        say(f"{root}: {left_out}")
    return Watch(*kept)


def _run_clean(
    shifts: list[Shift], predict: Predict, pixels: Pixels, root: Path
) -> dict[PurePosixPath, CleanRun]:
    """Each clean folder once, with the readings of all sets that are held against it."""
    runs = {}
    for place in dict.fromkeys(shift.one.clean.folder for shift in shifts):
        held = [shift for shift in shifts if shift.one.clean.folder == place]
        # In the order of names, whatever the classifier's: a bootstrap draws the same images then.
        own = {output for shift in held for output in shift.own}
        wanted = sorted(own, key=lambda output: held[0].outputs[output])
        folder = open_classes(root / place, [held[0].outputs[output] for output in wanted])
        readings = [reading for shift in held for reading in shift.readings.values()]
        runs[place] = CleanRun(
            folder=folder,
            output_N=np.array(wanted)[folder.labels_N],
            predicted=predict(folder, pixels, readings, f"robustness, {place}"),
        )
    return runs


def _measure(
    shift: Shift, clean: CleanRun, predict: Predict, recipe: RobustnessRecipe, root: Path
) -> Measured:
    one, pixels = shift.one, recipe.pixels
    if one.labels == "image numbers":
        return measure_real(shift, clean, root)
    if one.is_cropped:
        pixels = dataclasses.replace(pixels, crop_pct=1.0)
    if one.corruptions:
        return measure_corrupted(shift, clean, predict, pixels, root, seed=recipe.seed)
    return measure(shift, clean, predict, pixels, root)


def _settings(shift: Shift, measured: Measured, pixels: Pixels) -> dict[str, Any]:
    one = shift.one
    settings: dict[str, Any] = {"reading": one.reading, "labels": one.labels}
    if one.border:
        settings["border"] = one.border
    if one.is_cropped and pixels.crop_pct != 1:
        settings["set_crop_pct"] = 1.0
    if one.corruptions:
        settings["mCE"] = "normalised by AlexNet's errors"
    expected = len(one.parts) * (one.images or 0)
    if one.images and measured.data.images != expected:
        settings["images"] = f"{measured.data.images} of {expected}"
    expected = len(shift.own) * (one.clean.per_class or 0)
    if one.clean.per_class and measured.clean.images != expected:
        settings["clean_images"] = f"{measured.clean.images} of {expected}"
    return settings


def _protocol(shift: Shift, settings: dict[str, Any], pixels: Pixels) -> str:
    own = shift.one.reading == "own classes"
    real = shift.one.labels == "image numbers"
    words = [
        f"classifier: {settings['classifier']}",
        "largest logit among the set's own classes" if own else "largest of all logits",
    ]
    if shift.one.corruptions:
        words.append("mean over corruptions and severities, mCE normalised by AlexNet's errors")
    words.append(
        "right if it is any of an image's labels"
        if real
        else "drop against the clean images of the same classes"
    )
    words += [
        f"only {settings[key]} {key.replace('_', ' ')}"
        for key in ("images", "clean_images")
        if key in settings
    ]
    return "; ".join([*words, f"{pixels.img_size} px"])
