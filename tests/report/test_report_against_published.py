"""Measured against published: the verdict, and the runs and pre-trainings that it is on."""

import dataclasses
import math
from typing import Any

import pytest
from published_protocols import (
    MAE,
    TRAIN,
    VAL,
    finetuned,
    published,
    reference,
    verdict_on,
    verdicts_on,
)
from synthetic_results import recorded

from micl_bench.records.published import read_references
from micl_bench.records.result import Result
from micl_bench.records.statistics import t_interval, wilson
from micl_bench.records.weights import Stage
from micl_bench.report.frame.entries import entry_of
from micl_bench.report.tables.published_table import Beside, published_table

# Five runs that facebookresearch/mae issue 91 reports have the mean 83.45 and the interval
# [83.37, 83.54]; these have both.
FIVE = (83.36, 83.41, 83.45, 83.50, 83.54)


def test_five_runs_lie_below_what_was_published() -> None:
    runs = [finetuned(value, seed=seed) for seed, value in enumerate(FIVE)]
    found = verdict_on(runs, published())
    assert found.word == "below"
    assert found.entry.mean == pytest.approx(83.45, abs=0.005)
    assert found.interval == t_interval(FIVE[::-1]) == pytest.approx((83.37, 83.54), abs=0.01)
    assert len(found.entry.runs) == 5
    assert (
        "below, if of its pre-training: measured 83.45 [83.36, 83.54], mean of 5 runs; published 83.6"
        in (found.describe())
    )


def test_one_model_is_consistent_within_the_sampling_of_images() -> None:
    found = verdict_on([finetuned(83.746)], published())
    assert (found.reference.text, found.word) == ("83.6", "consistent")
    assert found.interval == wilson(83.746, 50_000)


def test_a_protocol_that_the_mapping_does_not_name_has_no_verdict() -> None:
    words = "released fine-tuned checkpoint, PT/GPU evaluation"
    released = reference(protocol=words, arch="ViT-B/16", method="MAE", task="imagenet_finetune")
    assert verdicts_on([finetuned(83.746)], [released]) == []


def test_a_printed_number_stands_for_all_that_is_rounded_to_it() -> None:
    reference = published()
    for value, word in ((83.545, "below"), (83.555, "consistent"), (83.655, "above")):
        ends = [value - 0.002, value + 0.002]
        assert verdict_on([finetuned(value, intervals={"top1": ends})], reference).word == word
    # 83.65 would be printed as 83.7.
    edge = finetuned(83.65, intervals={"top1": [83.65, 83.66]})
    assert verdict_on([edge], reference).word == "above"
    exact = finetuned(83.55, intervals={"top1": [83.5, 83.55]})
    assert verdict_on([exact], reference).word == "consistent"


def test_each_published_row_has_its_own_verdict() -> None:
    rows = [one for one in read_references() if one.task.startswith("imagenet_")]
    found = verdicts_on([finetuned(83.6)], rows)
    assert len(found) == 5
    assert {one.reference.method for one in found} == {"MAE"}
    assert {one.reference.arch for one in found} == {"ViT-B/16"}
    assert {one.reference.task for one in found} == {"imagenet_finetune"}
    assert len({one.reference.id for one in found}) == len(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"training": {"epochs": 50}}},
        {"settings": {"img_size": 384}},
        {"data": {**VAL, "images": 10_000}},
        {"data": {**VAL, "name": "photos"}},
        {"data": {**VAL, "stands_for": "ImageNet"}},
        {"train": dataclasses.replace(TRAIN, images=128_116)},
        {"intervals": {}},
        {"metrics": {"top1": math.nan}},
    ],
)
def test_other_settings_images_or_no_interval_have_no_verdict(changes: dict[str, Any]) -> None:
    assert verdicts_on([finetuned(83.6)], [published()])
    assert verdicts_on([finetuned(**{"top1": 83.6} | changes)], [published()]) == []


def stage(**changes: Any) -> Stage:
    values: dict[str, Any] = {
        "task": "pretrain",
        "method": "MAE",
        "fingerprint": "f" * 64,
        "seed": 0,
        "epochs": 1600.0,
        "data": "imagenet",
        "data_digest": TRAIN.digest,
        "settings": {"objective": {"mask_ratio": 0.75}},
    }
    return Stage(**values | changes)


def test_the_pretraining_is_compared_where_the_file_tells_it() -> None:
    def found(one: Stage) -> list[tuple[str, str]]:
        record = finetuned(83.6, checkpoint={**MAE, "origin": (one,)})
        return [(each.word, each.condition) for each in verdicts_on([record], [published()])]

    target = {"target": "normalised pixels"}
    assert found(stage(settings=target)) == [("consistent", "")]
    assert found(stage()) == [("consistent", "if of its pre-training")]
    assert found(stage(settings={"target": "pixels"})) == []
    assert found(stage(settings=target, epochs=200.0)) == []
    assert found(stage(settings=target, data="embedded")) == []


def test_of_an_unknown_pretraining_a_verdict_has_a_condition() -> None:
    assert verdict_on([finetuned(83.6)], published()).condition == "if of its pre-training"


def test_small_print_says_what_a_verdict_takes_for_granted() -> None:
    # By mmpretrain, of 300 and of 1600 epochs.
    rows = [
        one
        for one in read_references()
        if (one.method, one.arch, one.task) == ("MAE", "ViT-B/16", "imagenet_finetune")
        and "mmpretrain" in one.protocol
        and one.text in ("83.1", "83.5")
    ]

    def small_print(*origin: Stage) -> tuple[str, ...]:
        made = finetuned(83.5, checkpoint={**MAE, "origin": origin})
        return Beside(verdicts_on([made], rows)).words(entry_of("top1", recorded([made])))[0]

    assert small_print() == (
        "above published 83.1, if of its pre-training",
        "consistent with published 83.5, if of its pre-training",
    )
    assert small_print(stage(settings={"epochs": 1600})) == ("consistent with published 83.5",)


def test_other_methods_architectures_tasks_and_metrics_are_no_pair() -> None:
    for changes in (
        {"method": "MAE (unnormalized pixels)"},
        {"arch": "vit_large_patch16_224"},
        {"task": "linear"},
        {"metrics": {"top5": 96.0}},
    ):
        assert verdicts_on([finetuned(83.6, **changes)], [published()]) == []


def test_runs_are_of_one_network_and_protocol() -> None:
    # Two files of one method, of which nobody knows whether they were made alike.
    two = [
        finetuned(83.0, checkpoint=MAE),
        finetuned(83.6, checkpoint={**MAE, "digest": "b" * 64}),
    ]
    assert [len(one.entry.runs) for one in verdicts_on(two, [published()])] == [1, 1]
    # The same seed again: the newest counts. A seed that changes nothing: no run.
    again = [
        finetuned(83.0, seed=0),
        finetuned(83.6, seed=0, start="2025-05-02T10:00:00+00:00"),
        finetuned(83.6, seed=1),
    ]
    found = verdict_on(again, published())
    assert (len(found.entry.runs), found.entry.mean) == (1, 83.6)
    # Other settings: other numbers.
    apart = [finetuned(83.0, seed=0), finetuned(83.6, seed=1, settings={"drop_path": 0.2})]
    assert len(verdicts_on(apart, [published()])) == 2


def test_fine_tunings_of_one_checkpoint_are_no_pretrainings_of_their_own() -> None:
    def of(top1: float, pretraining: int, seed: int) -> Result:
        origin = (stage(seed=pretraining, settings={"epochs": 1600}),)
        weights = {**MAE, "digest": str(pretraining) * 64, "origin": origin}
        return finetuned(top1, seed=seed, checkpoint=weights)

    runs = [of(83.0, 0, 0), of(83.1, 0, 1), of(83.2, 0, 2), of(83.3, 0, 3), of(84.0, 1, 0)]
    found = verdict_on(runs, published())
    # As in the cell of a table: two pre-trainings, the first with the mean of its fine-tunings.
    entry = entry_of("top1", recorded(runs[::-1]))
    assert found.entry.mean == entry.mean == pytest.approx((83.15 + 84.0) / 2)
    assert found.interval == entry.interval == pytest.approx(t_interval((83.15, 84.0)))
    assert "mean of 2 checkpoints over 5 runs; published" in found.describe()
    cell = published_table(verdicts_on(runs, [published()])).rows[0].cells[3]
    assert (cell.interval, cell.runs) == (found.interval, 2)
    assert cell.details[1] == "2 checkpoints over 5 runs"
    assert set(cell.records) == {one.id for one in runs}
