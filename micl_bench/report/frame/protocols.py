"""The settings that distinguish protocols: a footnote names them where fingerprints differ."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.naming import training_words
from micl_bench.runtime.files import digest_json

NOT_SET = "not set"
IMAGENET_TRAIN = 1_281_167
"""Training images of ImageNet-1K; SimCLR's lists of 1 % and 10 % are of these."""
_LONGEST_VALUE = 60


def flat_settings(settings: dict[str, Any]) -> dict[str, str]:
    """Return values as text by dotted name; a long value, such as a grid, is cut and has its digest."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            found |= {f"{name}.{inner}": text for inner, text in flat_settings(value).items()}
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if len(text) > _LONGEST_VALUE:
                text = f"{text[: _LONGEST_VALUE // 2]}... (digest {digest_json(value)[:7]})"
            found[name] = text
    return found


def differing(flat: Collection[Mapping[str, str]], *, absent: str = NOT_SET) -> list[str]:
    """Return the names of the settings that are not the same in all of `flat`, in their order."""
    names = dict.fromkeys(name for settings in flat for name in settings)
    return [name for name in names if len({s.get(name, absent) for s in flat}) > 1]


def settings_apart(results: Sequence[Result]) -> str:
    """Return every setting in which records differ, in words: `precision: fp32 / bf16; k: 10 / 20`."""
    flat = [flat_settings(result.settings) for result in results]
    return "; ".join(
        f"{name}: {' / '.join(settings.get(name, NOT_SET) for settings in flat)}"
        for name in differing(flat)
    )


Protocol = tuple[str, str, DataSet | None]


def protocol_of(result: Result) -> Protocol:
    """Return words, settings and training images: numbers may be compared where all three are equal."""
    return (result.protocol, result.fingerprint, result.train)


def label_share(result: Result) -> float:
    """Return the share of the training labels that were used; 1 for all, NaN if unknown."""
    labels = result.settings.get("labels")
    if not isinstance(labels, dict):
        return 1.0
    listed, drawn = labels.get("images"), labels.get("drawn by seed, share of each class")
    if isinstance(listed, int):
        return round(listed / IMAGENET_TRAIN, 5)
    return drawn if isinstance(drawn, float) else math.nan


def captions(results: Sequence[Result]) -> dict[str, str]:
    """Return words for the protocol of each record, by the record's id; no two protocols share them.

    They are the records' own; where records of one data set have different fingerprints, also the
    settings in which they differ, and where they have different training images, also those.
    """
    by_data: dict[DataSet, list[Result]] = {}
    for result in results:
        by_data.setdefault(result.data, []).append(result)
    names: dict[str, None] = {}
    for same_images in by_data.values():
        # Equal fingerprints are equal settings: one of each is enough.
        distinct = list({result.fingerprint: result for result in same_images}.values())
        if len(distinct) > 1:
            flat = [flat_settings(result.settings) for result in distinct]
            names |= dict.fromkeys(differing(flat))
    several_trains = any(len({r.train for r in same}) > 1 for same in by_data.values())
    words: dict[Protocol, str] = {}
    for result in results:
        if (protocol := protocol_of(result)) not in words:
            settings = flat_settings(result.settings) if names else {}
            values = [f"{name}: {settings.get(name, NOT_SET)}" for name in names]
            trained = [training_words(result.train)] if several_trains else []
            words[protocol] = "; ".join([result.protocol, *values, *trained])
    return {result.id: words[protocol_of(result)] for result in results}
