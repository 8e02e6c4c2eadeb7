"""The trainings behind weights, as their file states them, and statements that are refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import SMALL

from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.checkpoints._save import export
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError

PRETRAINED = Stage(
    task="pretrain",
    method="MiCL",
    fingerprint="f" * 64,
    seed=3,
    epochs=10,
    data="digits",
    data_digest="d" * 64,
    settings={"objective": {"mask_ratio": 0.9, "scales": [0.2, 1.0]}},
)
TUNED = dataclasses.replace(PRETRAINED, task="finetune", seed=4, epochs=2.5)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "backbone.pt"
    save_checkpoint(path, SMALL.build(), SMALL, method="MiCL", provenance={}, stage=PRETRAINED)
    return path


def test_each_training_is_added_to_those_before(saved: Path, tmp_path: Path) -> None:
    start = load_checkpoint(str(saved))
    assert start.content.origin == (PRETRAINED,)
    assert start.described_at(SMALL.img_size).origin == (PRETRAINED,)
    model, path = start.backbone(), tmp_path / "tuned.pt"
    save_checkpoint(path, model, SMALL, method="MiCL", provenance={}, stage=TUNED, start=start)
    assert load_checkpoint(str(path)).content.origin == (PRETRAINED, TUNED)


def test_a_training_that_is_not_stated_leaves_no_origin(saved: Path, tmp_path: Path) -> None:
    start, path = load_checkpoint(str(saved)), tmp_path / "other.pt"
    save_checkpoint(path, start.backbone(), SMALL, method="x", provenance={}, start=start)
    assert load_checkpoint(str(path)).content.origin == ()


@pytest.mark.parametrize(("layout", "suffix"), [("timm", ".pt"), ("safetensors", ".safetensors")])
def test_it_goes_along_into_other_layouts(
    saved: Path, tmp_path: Path, layout: str, suffix: str
) -> None:
    path = tmp_path / f"converted{suffix}"
    export(load_checkpoint(str(saved)), layout, path)
    assert load_checkpoint(str(path)).content.origin == (PRETRAINED,)


def test_drawn_weights_state_their_seed_and_differ_by_it_alone() -> None:
    one, two = (
        load_checkpoint("random:vit_demo_patch4_32", seed=seed).content.origin for seed in (0, 1)
    )
    assert (one[0].seed, two[0].seed) == (0, 1)
    assert one[0].fingerprint == two[0].fingerprint
    assert one[0].task == "initialise"


@pytest.mark.parametrize(
    "origin",
    [
        "pretrain",
        [{}],
        [dataclasses.asdict(PRETRAINED) | {"seed": "3"}],
        [dataclasses.asdict(PRETRAINED) | {"task": "pre\ntrain"}],
        [dataclasses.asdict(PRETRAINED) | {"method": "m" * 1000}],
        [dataclasses.asdict(PRETRAINED) | {"surplus": 1}],
        [dataclasses.asdict(PRETRAINED)] * 17,
    ],
)
def test_a_file_of_a_stranger_may_not_say_anything_else(saved: Path, origin: Any) -> None:
    content = torch.load(saved, weights_only=True)
    content["provenance"]["origin"] = origin
    torch.save(content, saved)
    with pytest.raises(InputError, match="description is damaged"):
        load_checkpoint(str(saved))
