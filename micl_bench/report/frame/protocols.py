"""Which settings tell two protocols apart: what a footnote must name where fingerprints differ."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.naming import training_words
from micl_bench.runtime.files import digest_json

_ABSENT = "not set"
IMAGENET_TRAIN = 1_281_167
"""Training images of ImageNet-1K; SimCLR's lists of 1 % and 10 % are of these."""
_LONGEST_VALUE = 60


def flat_settings(settings: dict[str, Any]) -> dict[str, str]:
    """Dotted names and values as text; a long value, such as a grid, is its start and a digest."""
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


def differing_settings(results: Iterable[Result]) -> list[str]:
    """Names of the settings that are not the same in all records, in the records' order."""
    flat = [flat_settings(result.settings) for result in results]
    names = dict.fromkeys(name for settings in flat for name in settings)
    return [name for name in names if len({s.get(name, _ABSENT) for s in flat}) > 1]


def settings_apart(results: Sequence[Result]) -> str:
    """Every setting in which records differ, in words: `precision: fp32 / bf16; k: 10 / 20`."""
    flat = [flat_settings(result.settings) for result in results]
    return "; ".join(
        f"{name}: {' / '.join(settings.get(name, _ABSENT) for settings in flat)}"
        for name in differing_settings(results)
    )


Protocol = tuple[str, str, DataSet | None]


def protocol_of(result: Result) -> Protocol:
    """Numbers can be held against each other where this is equal: words, settings, training images."""
    return (result.protocol, result.fingerprint, result.train)


def label_share(result: Result) -> float:
    """The share of the training labels that a record's classifier was fitted on; 1 for all."""
    labels = result.settings.get("labels")
    if not isinstance(labels, dict):
        return 1.0
    listed, drawn = labels.get("images"), labels.get("drawn by seed, share of each class")
    if isinstance(listed, int):
        return round(listed / IMAGENET_TRAIN, 5)
    return drawn if isinstance(drawn, float) else math.nan


def captions(results: Sequence[Result]) -> dict[str, str]:
    """What to call the protocol of each record, by the record's id: other words, other protocol.

    The records' own words; where records of one data set have different fingerprints, also the
    settings that tell these apart, and where they have different training images, also those.
    """
    by_data: dict[DataSet, list[Result]] = {}
    for result in results:
        by_data.setdefault(result.data, []).append(result)
    names: dict[str, None] = {}
    for same_images in by_data.values():
        # Equal fingerprints are equal settings: one of each is enough.
        distinct = list({result.fingerprint: result for result in same_images}.values())
        if len(distinct) > 1:
            names |= dict.fromkeys(differing_settings(distinct))
    several_trains = any(len({r.train for r in same}) > 1 for same in by_data.values())
    words: dict[Protocol, str] = {}
    for result in results:
        if (protocol := protocol_of(result)) not in words:
            flat = flat_settings(result.settings) if names else {}
            values = [f"{name}: {flat.get(name, _ABSENT)}" for name in names]
            trained = [training_words(result.train)] if several_trains else []
            words[protocol] = "; ".join([result.protocol, *values, *trained])
    return {result.id: words[protocol_of(result)] for result in results}
