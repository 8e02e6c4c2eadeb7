"""The training behind a record's weights is found by what it was, never by a name."""

import dataclasses

import pytest
from synthetic_results import result

from micl_bench.records.result import Result
from micl_bench.records.weights import CheckpointInfo
from micl_bench.report.frame.lineage import Lineage, hardware_of, pretraining_stage


def pretraining(seed: int, *, mask_ratio: float = 0.9, digest: str = "a" * 64) -> Result:
    return result(
        task="pretrain",
        seed=seed,
        metrics={"loss": 1.0},
        settings={"objective": {"mask_ratio": mask_ratio}},
        data={"digest": digest, "split": "train"},
    )


def evaluated(training: Result) -> Result:
    stage = training.as_stage(epochs=10)
    checkpoint = CheckpointInfo(source="b.pt", format="micl_bench", digest="b", origin=(stage,))
    return dataclasses.replace(result(), checkpoint=checkpoint)


def test_the_record_of_the_very_training_is_found_among_its_like() -> None:
    trainings = [
        pretraining(0),
        pretraining(1),
        pretraining(0, mask_ratio=0.75),
        pretraining(0, digest="b" * 64),
    ]
    lineage = Lineage([*trainings, result()])
    for training in trainings:
        assert lineage.pretraining(evaluated(training)) == training
        assert lineage.pretraining(training) == training


def test_of_equal_trainings_the_newest_counts() -> None:
    older, newer = pretraining(0), dataclasses.replace(pretraining(0), seconds=99.0)
    assert Lineage([older, newer]).pretraining(evaluated(older)) == newer


def test_a_file_that_does_not_tell_has_no_training() -> None:
    lineage = Lineage([pretraining(0)])
    assert pretraining_stage(result()) is None
    assert lineage.pretraining(result()) is None
    assert lineage.pretraining(evaluated(pretraining(5))) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"gpus": "4 x A100", "processor": "Xeon", "cores": "64"}, "4 x A100"),
        ({"processor": "Xeon", "cores": "2"}, "2 cores of Xeon"),
        ({}, "? cores of processor"),
    ],
)
def test_hours_are_of_a_kind_of_hardware(environment: dict[str, str], words: str) -> None:
    assert hardware_of(environment) == words
