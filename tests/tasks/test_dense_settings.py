"""The fingerprint of a segmentation or detection config: what moves the number, nothing else."""

import copy
from typing import Any

import pytest

from micl_bench.tasks._dense import what_counts

CONFIG: dict[str, Any] = {
    "model": {"backbone": {"type": "MiCLViT", "checkpoint": "a.pt", "seed": 0, "drop_path": 0.1}},
    "train_dataloader": {
        "num_workers": 2,
        "dataset": {"data_root": "data/ade", "img": ["data/ade/images", "database"]},
    },
    "randomness": {"seed": 0, "deterministic": True},
}


def changed(**parts: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    config["model"]["backbone"].update(parts.pop("backbone", {}))
    config["train_dataloader"].update(parts.pop("loader", {}))
    return config | parts


@pytest.mark.parametrize(
    "other",
    [
        changed(backbone={"checkpoint": "b.pt", "seed": 1}),
        changed(loader={"num_workers": 8}),
        changed(randomness={"seed": 3, "deterministic": False}),
    ],
)
def test_start_seed_and_workers_do_not_count(other: dict[str, Any]) -> None:
    assert other != CONFIG
    assert what_counts(other, "data/ade") == what_counts(CONFIG, "data/ade")


def test_nor_does_the_place_of_the_data() -> None:
    elsewhere = changed(
        loader={"dataset": {"data_root": "/mnt/x", "img": ["/mnt/x/images", "database"]}}
    )
    assert what_counts(elsewhere, "/mnt/x") == what_counts(CONFIG, "data/ade")


def test_a_setting_of_the_model_does() -> None:
    other = changed(backbone={"drop_path": 0.2})
    assert what_counts(other, "data/ade") != what_counts(CONFIG, "data/ade")
