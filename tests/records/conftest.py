"""A result of k-NN, which the tests of records write, break and read."""

import pytest

from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import DataSet, Result
from micl_bench.records.weights import CheckpointInfo
from micl_bench.tasks import declared


@pytest.fixture
def subject() -> Subject:
    return Subject(
        method="MiCL",
        arch="vit",
        checkpoint=CheckpointInfo(source="a.pt", format="timm", digest="c"),
        recipe={"k": 10},
        seed=3,
    )


@pytest.fixture
def result(subject: Subject) -> Result:
    return Measurement(command="micl-bench eval knn").result(
        declared("knn"),
        subject,
        {"top1": 91.25},
        protocol="10-NN",
        data=DataSet(name="imagenet", split="val", images=8, digest="d"),
        settings={"k": 20},
    )
