"""What a number was measured on: which weights, and how a table's rows of one method are told apart."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from micl_bench.record import CheckpointInfo, Result


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


_APART = ("classifier", "branch", "digest", "positions", "normalisation", "network", "format")
"""What tells rows of one method, architecture and seed apart, the most telling first."""


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


def labels(identities: Iterable[Identity]) -> dict[Identity, str]:
    """The method of each, and no more than what tells it from the method's others."""
    distinct = list(dict.fromkeys(identities))
    several_archs = len({one.arch for one in distinct}) > 1
    seeds: dict[str, set[int]] = {}
    groups: dict[tuple[str, str, int], list[Identity]] = {}
    for one in distinct:
        seeds.setdefault(one.method, set()).add(one.seed)
        groups.setdefault((one.method, one.arch, one.seed), []).append(one)
    found: dict[Identity, str] = {}
    for (method, arch, seed), alike in groups.items():
        words = [method, *([arch] if several_archs else [])]
        words += [f"seed {seed}"] if len(seeds[method]) > 1 else []
        found |= {one: ", ".join([*words, *more]) for one, more in _apart(alike, _APART).items()}
    return found


def _apart(alike: list[Identity], names: Sequence[str]) -> dict[Identity, list[str]]:
    """The values of those fields that split the identities, and then what is left of them."""
    if len(alike) == 1 or not names:
        return {one: [] for one in alike}
    parts: dict[str, list[Identity]] = {}
    for one in alike:
        parts.setdefault(getattr(one, names[0]), []).append(one)
    found: dict[Identity, list[str]] = {}
    for value, part in parts.items():
        word = f"weights {value[:7]}" if names[0] == "digest" else value
        words = [word] if word and len(parts) > 1 else []
        found |= {one: words + more for one, more in _apart(part, names[1:]).items()}
    return found
