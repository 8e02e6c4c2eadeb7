"""What a number was measured on: which weights, and how a table's rows of one method are told apart."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from micl_bench.records.result import CheckpointInfo, Result
from micl_bench.runtime.files import digest_json


class Identity(NamedTuple):
    """What makes one row of a table, beside its protocol."""

    method: str
    arch: str
    seed: int
    classifier: str
    """What was put on the backbone, where the record's settings say it."""
    branch: str
    digest: str
    positions: str
    normalisation: str
    network: str
    format: str
    training: str = ""
    """Digest of the trainings behind the weights, without their seeds; empty where unknown."""


_APART = (
    *("classifier", "branch", "training", "digest", "positions", "normalisation", "network"),
    "format",
)
"""What tells rows of one method, architecture and seed apart, the most telling first."""
_FIRST = ("initialise", "pretrain")
"""Trainings that start from nothing; behind another one, weights of unknown making may stand."""


def weights_of(result: Result) -> CheckpointInfo:
    """The network that was measured, whatever its file was called.

    One file may hold several networks, and one network may be read with other position embeddings.
    """
    return dataclasses.replace(result.checkpoint, source="")


def identity_of(result: Result) -> Identity:
    """Of one record."""
    weights = weights_of(result)
    return Identity(
        method=result.method,
        arch=result.arch,
        seed=result.seed,
        classifier=str(result.settings.get("classifier", "")),
        branch=weights.branch,
        digest=weights.digest,
        positions=weights.positions,
        normalisation=weights.normalisation,
        network=weights.network,
        format=weights.format,
    )


def network_of(result: Result) -> Identity:
    """What records that differ in seeds alone have in common.

    The trainings behind the weights, where the file tells them from the first on; otherwise these
    very weights: nobody knows whether others were made in the same way.
    """
    one = identity_of(result)._replace(seed=0)
    stages = result.checkpoint.origin
    if not stages or stages[0].task not in _FIRST:
        return one
    # What the user stated to be one pre-training is not the same as what files tell to be one.
    trainings = [
        (s.task, s.method, s.fingerprint, s.data_digest, s.epochs, s.stated) for s in stages
    ]
    return one._replace(digest="", format="", training=_digest(tuple(trainings)))


def seeds_of(result: Result) -> tuple[str | int, ...]:
    """What tells records of one network apart: the seeds of its trainings, then the evaluation's."""
    if result.checkpoint.origin:
        return (*(stage.seed for stage in result.checkpoint.origin), result.seed)
    return (result.checkpoint.digest, result.seed)


@functools.lru_cache(maxsize=4096)
def _digest(trainings: tuple[Any, ...]) -> str:
    return digest_json(trainings)


def labels(
    identities: Iterable[Identity],
    trainings: Mapping[str, str] = MappingProxyType({}),
    *,
    with_arch: bool = True,
) -> dict[Identity, str]:
    """The method of each, and no more than what tells it from the method's others.

    Args:
        trainings: what to call each `Identity.training`; without a name it is a digest.
        with_arch: say the architecture where there are several.
    """
    distinct = list(dict.fromkeys(identities))
    several_archs = with_arch and len({one.arch for one in distinct}) > 1
    seeds: dict[str, set[int]] = {}
    groups: dict[tuple[str, str, int], list[Identity]] = {}
    for one in distinct:
        seeds.setdefault(one.method, set()).add(one.seed)
        groups.setdefault((one.method, one.arch, one.seed), []).append(one)
    found: dict[Identity, str] = {}
    for (method, arch, seed), alike in groups.items():
        words = [method, *([arch] if several_archs else [])]
        words += [f"seed {seed}"] if len(seeds[method]) > 1 else []
        apart = _apart(alike, _APART, trainings)
        found |= {one: ", ".join([*words, *more]) for one, more in apart.items()}
    return found


def _apart(
    alike: list[Identity], names: Sequence[str], trainings: Mapping[str, str]
) -> dict[Identity, list[str]]:
    """The values of those fields that split the identities, and then what is left of them."""
    if len(alike) == 1 or not names:
        return {one: [] for one in alike}
    parts: dict[str, list[Identity]] = {}
    for one in alike:
        parts.setdefault(getattr(one, names[0]), []).append(one)
    found: dict[Identity, list[str]] = {}
    for value, part in parts.items():
        word = value
        if value and names[0] == "digest":
            word = f"weights {value[:7]}"
        elif value and names[0] == "training":
            word = trainings.get(value) or f"recipe {value[:7]}"
        words = [word] if word and len(parts) > 1 else []
        more = _apart(part, names[1:], trainings)
        found |= {one: words + rest for one, rest in more.items()}
    return found
