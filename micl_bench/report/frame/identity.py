"""The identity of a measured network, and the labels that distinguish a method's rows in a table."""

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from micl_bench.records.result import Result
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.files import digest_json


class Identity(NamedTuple):
    """Together with the protocol, this identifies a row of a table."""

    method: str
    arch: str
    seed: int
    classifier: str
    """The head on the backbone, where the record's settings name it."""
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
"""Fields that distinguish rows of one method, architecture and seed, in the order of labels."""
_FIRST = ("initialise", "pretrain")
"""Trainings that start from nothing; behind another one, weights of unknown making may stand."""


def weights_of(result: Result) -> CheckpointInfo:
    """Return the network that was measured, without the name of its file.

    One file may hold several networks, and one network may be read with other position embeddings.
    """
    return dataclasses.replace(result.checkpoint, source="")


def identity_of(result: Result) -> Identity:
    """Return the identity of a record."""
    weights = result.checkpoint
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
    """Return the identity that records which differ only in their seeds have in common.

    It holds the trainings behind the weights, where the file names them from the first on; otherwise
    these very weights, because nobody knows whether others were made in the same way.
    """
    one = identity_of(result)._replace(seed=0)
    stages = result.checkpoint.origin
    if not stages or stages[0].task not in _FIRST:
        return one
    # A pre-training that the user stated is not the same as one that the file names.
    trainings = [
        (s.task, s.method, s.fingerprint, s.data_digest, s.epochs, s.stated) for s in stages
    ]
    return one._replace(digest="", format="", training=digest_json(trainings))


def seeds_of(result: Result) -> tuple[str | int, ...]:
    """Return the seeds of the trainings, or else the weights' digest, and the evaluation's seed."""
    if result.checkpoint.origin:
        return (*(stage.seed for stage in result.checkpoint.origin), result.seed)
    return (result.checkpoint.digest, result.seed)


def labels(
    identities: Iterable[Identity],
    trainings: Mapping[str, str] = MappingProxyType({}),
    *,
    with_arch: bool = True,
) -> dict[Identity, str]:
    """Return a label per identity: the method, and what distinguishes it from the method's others.

    Args:
        trainings: a name per `Identity.training`; without one it is called by its digest.
        with_arch: name the architecture where there are several.
    """
    distinct = list(dict.fromkeys(identities))
    frame = pd.DataFrame(distinct, columns=Identity._fields)
    label = frame["method"].astype(object)
    if with_arch and frame["arch"].nunique() > 1:
        label += ", " + frame["arch"]
    several_seeds = frame.groupby("method")["seed"].transform("nunique") > 1
    label += (", seed " + frame["seed"].astype(str)).where(several_seeds, "")
    words = frame[list(_APART)].copy()
    words["digest"] = "weights " + frame["digest"].str[:7]
    words["training"] = frame["training"].map(lambda one: trainings.get(one, f"recipe {one[:7]}"))
    equal = ["method", "arch", "seed"]
    for name in _APART:
        differs = frame.groupby(equal)[name].transform("nunique") > 1
        label += (", " + words[name]).where(differs & (frame[name] != ""), "")
        equal.append(name)
    return dict(zip(distinct, label, strict=True))
