"""The small print of a measured number about published ones says what it takes for granted."""

from synthetic_results import recorded, result

from micl_bench.records.published import read_references
from micl_bench.records.result import DataSet, Result, Stage
from micl_bench.report.compare.against_published import verdicts
from micl_bench.report.frame.entries import entry_of
from micl_bench.report.tables.published_table import Beside

TRAIN = DataSet(name="imagenet", split="train", images=1_281_167, digest="7" * 64)
STAGE = Stage(
    task="pretrain",
    method="MAE",
    fingerprint="f" * 64,
    seed=0,
    epochs=1600,
    data="imagenet",
    data_digest=TRAIN.digest,
    settings={"epochs": 1600},
)


def small_print(*origin: Stage) -> tuple[str, ...]:
    made: Result = result(
        task="finetune",
        method="MAE",
        arch="vit_base_patch16_224",
        metrics={"top1": 83.5},
        data={"name": "imagenet", "split": "val", "images": 50_000, "digest": "e" * 64},
        train=TRAIN,
        settings={"img_size": 224, "training": {"epochs": 100}},
        checkpoint={"origin": origin},
    )
    # By mmpretrain, of 300 and of 1600 epochs.
    rows = [
        one
        for one in read_references()
        if (one.method, one.arch, one.task) == ("MAE", "ViT-B/16", "imagenet_finetune")
        and "mmpretrain" in one.protocol
        and one.text in ("83.1", "83.5")
    ]
    return Beside(verdicts([made], rows)).words(entry_of("top1", recorded([made])))[0]


def test_of_an_unknown_pretraining_a_verdict_has_a_condition() -> None:
    assert small_print() == (
        "above published 83.1, if of its pre-training",
        "consistent with published 83.5, if of its pre-training",
    )
    assert small_print(STAGE) == ("consistent with published 83.5",)
