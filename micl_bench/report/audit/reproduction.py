"""A record and the one that its command gave when it was run again: the same, within chance, or not."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

import numpy as np

from micl_bench.records.declared import Number
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import Result
from micl_bench.report.compare.bootstrapped import Redrawn, read_kept
from micl_bench.report.compare.per_image_checks import same_order
from micl_bench.report.frame.identity import weights_of
from micl_bench.report.frame.protocols import flat_settings, settings_apart
from micl_bench.runtime.errors import InputError

Word = Literal["identical", "consistent", "different", "not comparable"]
Run = tuple[Path, Result]
"""Metrics of the machine: they never repeat, and say nothing of the weights."""
_SHOWN = 5
_EVIDENCE = ("predictions", "statistics")
_NOTHING_KEPT = "nothing is kept of each"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeated:
    """One metric, then and now."""

    then: Number
    now: float

    @property
    def is_same(self) -> bool:
        """To the last bit."""
        then = self.then.value
        return then == self.now or (math.isnan(then) and math.isnan(self.now))

    @property
    def is_within(self) -> bool:
        """The same, or within the first measurement's interval."""
        ends = self.then.interval
        return self.is_same or (ends is not None and ends[0] <= self.now <= ends[1])

    def describe(self) -> str:
        """In a line."""
        ends, then = self.then.interval, self.then.value
        chance = f", then [{ends[0]:.6g}, {ends[1]:.6g}]" if ends else ""
        word = "same" if self.is_same else f"{self.now - then:+.6g}{chance}"
        return f"{self.then.header}: then {then:.10g}, now {self.now:.10g} ({word})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The verdict, and what it rests on."""

    word: Word
    moved: tuple[str, ...]
    """What moves the number and is not as it was: then the numbers are not comparable."""
    noted: tuple[str, ...]
    """What is not as it was and should move bits at most: code, packages, machine."""
    kept: tuple[str, ...]
    """What is as it was, by its digest or in full."""
    metrics: tuple[Repeated, ...]
    images: str
    """What was predicted for each image, then and now."""

    @property
    def is_reproduced(self) -> bool:
        """Whether the number came out again."""
        return self.word in ("identical", "consistent")

    def describe(self) -> list[str]:
        """Lines for a terminal."""
        return [
            *(metric.describe() for metric in self.metrics),
            f"evidence of each image: {self.images}",
            f"as it was: {', '.join(self.kept) or 'nothing'}",
            *(f"not as it was, and moves the number: {line}" for line in self.moved),
            *(f"not as it was: {line}" for line in self.noted),
            f"verdict: {self.word}, {self._meaning()}",
        ]

    def _meaning(self) -> str:
        if self.word == "identical" and self.images == _NOTHING_KEPT:
            return "every metric to the last bit"
        return _MEANING[self.word]


_MEANING: dict[Word, str] = {
    "identical": "every metric to the last bit, and the evidence of each image",
    "consistent": "every metric is the same or within the 95 % interval that the record has",
    "different": "a metric lies outside its interval, or has none and is not the same",
    "not comparable": "something that moves the number is not as it was",
}


def compare_runs(then: Run, now: Run) -> Reproduction:
    """What to make of a record and of its repetition."""
    (_, old), (_, new) = then, now
    moved = _moved(old, new)
    metrics = [
        Repeated(
            then=number,
            now=new.values.get(name, math.nan),
        )
        for name, number in old.metrics.items()
        if not number.of_machine
    ]
    same_images, images = _images(then, now)
    word: Word = "different"
    if moved:
        word = "not comparable"
    elif all(metric.is_same for metric in metrics) and same_images:
        word = "identical"
    elif all(metric.is_within for metric in metrics):
        word = "consistent"
    return Reproduction(
        word=word,
        moved=tuple(moved),
        noted=tuple(_noted(old, new)),
        kept=tuple(_kept(old, new)),
        metrics=tuple(metrics),
        images=images,
    )


def _kept(old: Result, new: Result) -> list[str]:
    same = {
        "images": old.data == new.data,
        "training images": old.train == new.train,
        "checkpoint": weights_of(old) == weights_of(new),
        "settings": old.fingerprint == new.fingerprint,
        "seed": old.seed == new.seed,
        "recipe": old.recipe_digest == new.recipe_digest,
        "code": old.code_version == new.code_version and not _is_changed(old),
        "packages and machine": old.environment == new.environment,
    }
    return [label for label, is_same in same.items() if is_same]


def _moved(old: Result, new: Result) -> list[str]:
    found = []
    for label, one, other in (("images", old.data, new.data), ("training", old.train, new.train)):
        if one != other:
            words = [
                f"{d.name}, split {d.split}, {d.images:,} images, digest {d.digest[:12]}"
                if d
                else "none"
                for d in (one, other)
            ]
            found.append(f"{label}: then {words[0]}, now {words[1]}")
    if old.task != "pretrain" and weights_of(old) != weights_of(new):
        found += [
            f"checkpoint's {field.name}: then {a or 'none'}, now {b or 'none'}"
            for field in dataclasses.fields(old.checkpoint)
            if field.name not in ("source", "origin")
            and (a := getattr(old.checkpoint, field.name))
            != (b := getattr(new.checkpoint, field.name))
        ]
    if old.fingerprint != new.fingerprint:
        found.append(f"settings (then / now): {settings_apart([old, new])}")
    if old.seed != new.seed:
        found.append(f"seed: then {old.seed}, now {new.seed}")
    if old.arch != new.arch:
        found.append(f"architecture: then {old.arch}, now {new.arch}")
    return found


def _noted(old: Result, new: Result) -> list[str]:
    found = []
    if old.code_version != new.code_version:
        found.append(f"code: then {old.code_version}, now {new.code_version}")
    elif _is_changed(old):
        found.append(
            f"code: {old.code_version} had changes, then and now; nobody knows if the same"
        )
    if old.recipe_digest != new.recipe_digest:
        found.append(f"recipe: {_recipes_apart(old, new)}")
    for name in dict.fromkeys((*old.environment, *new.environment)):
        values = [one.environment.get(name, "none") for one in (old, new)]
        if values[0] != values[1]:
            found.append(f"{name}: then {values[0]}, now {values[1]}")
    processes = [one.details.get("processes") for one in (old, new)]
    if processes[0] != processes[1]:
        found.append(f"processes: then {processes[0]}, now {processes[1]}")
    if old.task == "pretrain" and old.checkpoint.digest != new.checkpoint.digest:
        found.append(
            "the file of weights: its SHA-256 is another; it holds the command, with --out"
        )
    return found


def _recipes_apart(old: Result, new: Result) -> str:
    """The values in which two recipes differ; those that move the number are settings too."""
    flat = [flat_settings(one.recipe) for one in (old, new)]
    names = [n for n in dict.fromkeys((*flat[0], *flat[1])) if flat[0].get(n) != flat[1].get(n)]
    shown = [
        f"{name}: then {flat[0].get(name, 'not set')}, now {flat[1].get(name, 'not set')}"
        for name in names[:_SHOWN]
    ]
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(shown) + more


def _is_changed(result: Result) -> bool:
    """Whether the code's files differed from its commit."""
    return "+changes" in result.code_version


def _images(then: Run, now: Run) -> tuple[bool, str]:
    """Whether what is kept of each image is the same, and words on it."""
    old, new = then[1], now[1]
    kept = [name for name in _EVIDENCE if name in old.digests]
    if not kept:
        return True, _NOTHING_KEPT
    if all(old.digests[name] == new.digests.get(name) for name in kept):
        return True, f"{' and '.join(kept)} are the same, byte for byte"
    try:
        one, other = read_kept(*then), read_kept(*now)
        if isinstance(one, Predictions) and isinstance(other, Predictions):
            return _predictions(one, other)
        if isinstance(one, Redrawn) and isinstance(other, Redrawn):
            return _statistics(one, other)
    except InputError as error:
        return False, f"cannot be compared: {error}"
    return False, "cannot be compared: what was kept of them then is gone"


def _predictions(one: Predictions, other: Predictions) -> tuple[bool, str]:
    order = same_order(one, other)
    shared = [name for name in one.predicted if name in other.predicted]
    counts = {
        name: int((one.predicted[name] != other.predicted[name][order]).sum()) for name in shared
    }
    same = shared == list(one.predicted) and not any(counts.values())
    rights = all(
        np.array_equal(one.correct[name], other.correct[name][order])
        for name in one.correct
        if name in other.correct
    )
    if same and rights:
        return True, f"the predictions for all {len(one.files):,} are the same"
    most = max(counts, key=lambda name: counts[name], default="")
    changed = counts.get(most, 0)
    return False, f"{changed:,} of {len(one.files):,} have another prediction ({most})"


def _statistics(one: Redrawn, other: Redrawn) -> tuple[bool, str]:
    same = one.files == other.files and one.metrics == other.metrics
    same = same and one.draws.keys() == other.draws.keys()
    if same and all(np.array_equal(one.draws[name], other.draws[name]) for name in one.draws):
        return True, f"the statistics of all {len(one.files):,} are the same"
    return False, f"the statistics of {len(one.files):,} are not the same"
