"""A record and the one that its command gave when it was run again: the same, within chance, or not."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from micl_bench.records.declared import Number
from micl_bench.records.result import Record, Result
from micl_bench.report.compare.artefact_files import EVIDENCE, evidence_of
from micl_bench.report.frame.lineage import PRETRAIN
from micl_bench.report.frame.naming import data_words
from micl_bench.report.frame.protocols import flat_settings
from micl_bench.runtime.errors import InputError

Word = Literal["identical", "consistent", "different", "not comparable"]
_MOVES = ("images", "training images", "checkpoint", "settings", "seed", "architecture")
"""The groups that move a number; others that are not as they were should move bits at most."""
_MEANING: dict[Word, str] = {
    "identical": "every metric to the last bit, and the evidence of each image",
    "consistent": "every metric is the same or within the 95 % interval that the record has",
    "different": "a metric lies outside its interval, or has none and is not the same",
    "not comparable": "something that moves the number is not as it was",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The verdict, and lines on what it rests on."""

    word: Word
    moved: list[str]
    """Lines on what is not as it was and moves the number: the numbers are then not comparable."""
    noted: list[str]
    """Lines on what is not as it was and should move bits at most: code, packages, machine."""
    kept: list[str]
    """The groups that are as they were."""
    metrics: list[str]
    images: str
    """Words on the evidence of each image, then and now; empty where none is kept."""

    @property
    def is_reproduced(self) -> bool:
        """True where the number came out again."""
        return self.word in ("identical", "consistent")

    def describe(self) -> list[str]:
        """Lines for a terminal."""
        meaning = _MEANING[self.word]
        if self.word == "identical" and not self.images:
            meaning = "every metric to the last bit"
        return [
            *self.metrics,
            f"evidence of each image: {self.images or 'nothing is kept of each'}",
            f"as it was: {', '.join(self.kept) or 'nothing'}",
            *(f"not as it was, and moves the number: {line}" for line in self.moved),
            *(f"not as it was: {line}" for line in self.noted),
            f"verdict: {self.word}, {meaning}",
        ]


def compare_runs(old: Record, new: Record) -> Reproduction:
    """Compare a record with its repetition, and return the verdict."""
    before, after = _rests_on(old), _rests_on(new)
    apart = {group: changed(before[group], after[group]) for group in before}
    if "+changes" in old.code_version and not apart["code"]:
        apart["code"] = [f"code: {old.code_version} had changes; nobody knows if the same"]
    moved = [line for group in _MOVES for line in apart[group]]
    pairs = [
        (number, new.values.get(name, math.nan))
        for name, number in old.metrics.items()
        if not number.of_machine
    ]
    same_images, images = _images(old, new)
    word: Word = "different"
    if moved:
        word = "not comparable"
    elif same_images and all(_is_same(then, now) for then, now in pairs):
        word = "identical"
    elif all(_is_same(then, now) or _is_within(then, now) for then, now in pairs):
        word = "consistent"
    return Reproduction(
        word=word,
        moved=moved,
        noted=[line for group in apart if group not in _MOVES for line in apart[group]],
        kept=[group for group in apart if not apart[group]],
        metrics=[_line(then, now) for then, now in pairs],
        images=images,
    )


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a line for each name whose value is not as it was."""
    return [
        f"{name}: then {then.get(name) or 'none'}, now {now.get(name) or 'none'}"
        for name in dict.fromkeys((*then, *now))
        if then.get(name) != now.get(name)
    ]


def _is_same(then: Number, now: float) -> bool:
    """To the last bit."""
    return then.value == now or (math.isnan(then.value) and math.isnan(now))


def _is_within(then: Number, now: float) -> bool:
    return then.interval is not None and then.interval[0] <= now <= then.interval[1]


def _line(then: Number, now: float) -> str:
    ends = then.interval
    chance = f", then [{ends[0]:.6g}, {ends[1]:.6g}]" if ends else ""
    word = "same" if _is_same(then, now) else f"{now - then.value:+.6g}{chance}"
    return f"{then.header}: then {then.value:.10g}, now {now:.10g} ({word})"


def _rests_on(result: Result) -> dict[str, dict[str, str]]:
    """Return everything that a number rests on, in groups of names and values."""
    weights = {
        f"checkpoint's {field.name}": str(getattr(result.checkpoint, field.name))
        for field in dataclasses.fields(result.checkpoint)
        if field.compare and field.name != "source"
    }
    # What a pre-training makes is its result; its file holds the command, with --out.
    made = result.task == PRETRAIN
    digest = result.checkpoint.digest
    return {
        "images": {"images": data_words(result.data)},
        "training images": {"training images": data_words(result.train) if result.train else ""},
        "checkpoint": {} if made else weights,
        "settings": {f"setting {k}": v for k, v in flat_settings(result.settings).items()},
        "seed": {"seed": str(result.seed)},
        "recipe": {f"recipe's {k}": v for k, v in flat_settings(result.recipe).items()},
        "code": {"code": result.code_version},
        "packages and machine": result.environment,
        "processes": {"processes": str(result.details.get("processes", ""))},
        "architecture": {"architecture": result.arch},
        **({"file of weights": {"SHA-256 of the file of weights": digest}} if made else {}),
    }


def _images(old: Record, new: Record) -> tuple[bool, str]:
    """Return whether the evidence of each image is the same, and words on it."""
    if EVIDENCE not in old.digests:
        return True, ""
    if old.digests[EVIDENCE] == new.digests.get(EVIDENCE):
        return True, f"{old.evidence} are the same, byte for byte"
    try:
        one, other = evidence_of(old), evidence_of(new)
        if one is None or other is None or one.kind != other.kind:
            return False, "cannot be compared: what was kept of them then is gone"
        count, whole = one.changed(other), f"{len(one.files):,}"
    except InputError as error:
        return False, f"cannot be compared: {error}"
    if not count:
        return True, f"the {one.kind} of all {whole} are the same"
    return False, f"the {one.kind} of {count:,} of {whole} are not the same"
