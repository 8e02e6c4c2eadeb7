"""Robustness: a classifier on shifted test sets, and the drop against the clean set's same classes."""

import dataclasses
import functools
import time
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np

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
from micl_bench.tasks._session import Session
from micl_bench.tasks.robustness import TASK
from micl_bench.tasks.robustness.corrupted import measure_corrupted
from micl_bench.tasks.robustness.scores import CleanRun, Measured, measure, measure_real
from micl_bench.tasks.robustness.shifted import (
    ASSUMED_BY_NAME,
    Classifier,
    Shift,
    match,
    open_classes,
    output_names,
)

_UNKNOWN = "unknown"
"""How a classifier was made whose file does not tell."""


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
    """Of the bootstrap."""


RECIPE = RobustnessRecipe
"""What `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """One record a set: top-1 there, on the clean set's same classes, and the difference.

    Raises:
        InputError: bad recipe or data, or a checkpoint without a head for the sets' classes.
    """
    session = request.open(RobustnessRecipe)
    recipe = session.recipe
    sets = [find_set(name) for name in recipe.sets]
    side = session.checkpoint.arch.img_size
    if recipe.pixels.img_size != side:
        raise InputError(f"the classifier takes {side} px; give --set pixels.img_size={side}")
    for one in sets:
        _require(one, request.data, allow_partial=recipe.allow_partial)
    model = session.checkpoint.classifier().to(session.device)
    outputs, known = _outputs(session, sets)
    source = session.checkpoint.info.source
    shifts = [match(one, request.data, outputs, source=source) for one in sets]
    unchanged = _looked_at(shifts, request.data)
    classifier = Classifier(
        model=model,
        checkpoint=session.checkpoint,
        device=session.device,
        batch_size=recipe.batch_size,
        num_workers=recipe.num_workers,
    )
    with at_precision(recipe.precision, model, session.device) as watch:
        clean = _run_clean(shifts, classifier, recipe.pixels, request.data)
        measured, seconds = _run_shifted(shifts, clean, classifier, recipe, request.data)
        seen = watch.seen()
    unchanged.require_unchanged()
    shared = (session.measurement.elapsed - sum(seconds)) / len(sets)
    return [
        result
        for shift, one, own in zip(shifts, measured, seconds, strict=True)
        for result in _results(
            session, shift, one, classes=known, precision=seen, seconds=own + shared
        )
    ]


def _looked_at(shifts: list[Shift], root: Path) -> Watch:
    """Look at the images of all sets, and say what is not read of their folders.

    Returns:
        Of all but corrupted sets, which are millions of files: what tells whether they changed.
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
    # Of 75 parts with the same in each, once.
    if left_out := join_lines(lines):
        say(f"{root}: {left_out}")
    return Watch(*kept)


def _require(one: RobustnessSet, root: Path, *, allow_partial: bool) -> None:
    findings = inspect_set(one, root)
    lines = findings.wrong if allow_partial else [*findings.wrong, *findings.missing]
    if lines:
        mend = "" if findings.wrong else " (or measure what is there: --set allow_partial=true)"
        more = f"; and {counted(len(lines) - 1, 'more finding')}" if len(lines) > 1 else ""
        raise InputError(lines[0] + mend + more)


def _outputs(
    session: Session[RobustnessRecipe], sets: list[RobustnessSet]
) -> tuple[tuple[str, ...], str]:
    """Class names of the classifier's outputs, and how they are known.

    Raises:
        InputError: the classifier does not fit the clean sets' classes.
    """
    classes = {one.clean.folder: _clean_classes(one.clean, session.request.data) for one in sets}
    if len(set(classes.values())) != 1 and not session.checkpoint.classes:
        raise InputError("the sets have clean sets of different classes; evaluate them one by one")
    outputs, known = output_names(session.checkpoint, next(iter(classes.values())))
    for one in sets:
        unknown = sorted(set(classes[one.clean.folder]) - set(outputs))
        if unknown and not one.clean.classes:
            folder = session.request.data / one.clean.folder
            raise InputError(f"{folder} has classes unknown in training: {', '.join(unknown[:3])}")
    return outputs, known


def _clean_classes(clean: CleanSet, root: Path) -> tuple[str, ...]:
    return clean.classes or class_folders(root / clean.folder)


def _run_clean(
    shifts: list[Shift], classifier: Classifier, pixels: Pixels, root: Path
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
            predicted=classifier.predict(folder, pixels, readings, label=f"robustness, {place}"),
        )
    return runs


def _run_shifted(
    shifts: list[Shift],
    clean: dict[PurePosixPath, CleanRun],
    classifier: Classifier,
    recipe: RobustnessRecipe,
    root: Path,
) -> tuple[list[Measured], list[float]]:
    """What was measured on each set, and the seconds of its own that it took."""
    measured, seconds = [], []
    for shift in shifts:
        one, start = shift.one, time.monotonic()
        held_against = clean[one.clean.folder]
        pixels = (
            dataclasses.replace(recipe.pixels, crop_pct=1.0) if one.is_cropped else recipe.pixels
        )
        if one.labels == "image numbers":
            measured.append(measure_real(shift, held_against, root))
        else:
            read = (
                functools.partial(measure_corrupted, seed=recipe.seed)
                if one.corruptions
                else measure
            )
            measured.append(read(shift, held_against, classifier, pixels, root))
        seconds.append(time.monotonic() - start)
    return measured, seconds


def _results(
    session: Session[RobustnessRecipe],
    shift: Shift,
    measured: Measured,
    *,
    classes: str,
    precision: str,
    seconds: float,
) -> list[Result]:
    recipe = session.recipe
    settings = _settings(shift, measured, recipe.pixels)
    settings["classifier"] = session.checkpoint.maker or _UNKNOWN
    assumed = "the classes of its outputs, in order of their names"
    return session.measure(
        TASK,
        measured.metrics,
        protocol=_protocol(shift, settings, recipe.pixels),
        data=measured.data,
        settings={**settings, "precision": precision},
        evidence=measured.predictions,
        intervals=measured.intervals,
        details={
            **measured.details,
            "classes": classes,
            "clean": dataclasses.asdict(measured.clean),
        },
        seconds=seconds,
        guesses=(assumed,) if classes == ASSUMED_BY_NAME else (),
    )


def _settings(shift: Shift, measured: Measured, pixels: Pixels) -> dict[str, Any]:
    one = shift.one
    settings: dict[str, Any] = {"reading": one.reading, "labels": one.labels}
    if one.border:
        settings["border"] = one.border
    if one.is_cropped and pixels.crop_pct != 1:
        settings["set_crop_pct"] = 1.0
    if one.corruptions:
        settings["mCE"] = "normalised by AlexNet's errors"
    expected = len(one.parts) * one.images if one.images else measured.data.images
    if measured.data.images != expected:
        settings["images"] = f"{measured.data.images} of {expected}"
    if one.clean.per_class and measured.clean.images != len(shift.own) * one.clean.per_class:
        expected = len(shift.own) * one.clean.per_class
        settings["clean_images"] = f"{measured.clean.images} of {expected}"
    return settings


def _protocol(shift: Shift, settings: dict[str, Any], pixels: Pixels) -> str:
    words = [f"classifier: {settings['classifier']}"]
    if shift.one.reading == "own classes":
        words.append("largest logit among the set's own classes")
    else:
        words.append("largest of all logits")
    if shift.one.corruptions:
        words.append("mean over corruptions and severities, mCE normalised by AlexNet's errors")
    if shift.one.labels == "image numbers":
        words.append("right if it is any of an image's labels")
    else:
        words.append("drop against the clean images of the same classes")
    words += [
        f"only {settings[key]} {key.replace('_', ' ')}"
        for key in ("images", "clean_images")
        if key in settings
    ]
    return "; ".join([*words, f"{pixels.img_size} px"])
