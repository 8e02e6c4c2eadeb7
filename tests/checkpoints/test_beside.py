"""Tensors beside a backbone, which somebody asks for by name."""

from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, SMALL, random_state, small_vit

from micl_bench.checkpoints import load_checkpoint
from micl_bench.checkpoints._beside import read_beside
from micl_bench.runtime.errors import InputError

NAMES = {r"(?:net\.)?(head\..+)": r"\1", r"extra\.(.+)": r"extra.\1"}


def test_names_are_whole_and_tables_that_are_taken_as_a_whole_are_known() -> None:
    half = torch.ones(2, dtype=torch.float16)
    content = {
        "net": {"module.head.weight": torch.zeros(2), "blocks.0.weight": torch.ones(1)},
        "extra": {"a": half, "b": torch.zeros(1)},
        "partly": {"head.weight": torch.zeros(2)},
        "epoch": 3,
    }
    tensors, fates = read_beside(content, NAMES)
    assert [*tensors] == ["head.weight", "extra.a", "extra.b"]
    assert tensors["extra.a"].dtype == torch.float32
    assert fates == {"module.head.weight", "a", "b", "extra"}
    assert read_beside(content, {}) == ({}, frozenset())


def test_one_name_for_two_tensors_and_whole_numbers_are_refused() -> None:
    twice = {"net": {"head.weight": torch.zeros(2)}, "head.weight": torch.zeros(2)}
    with pytest.raises(InputError, match=r"both head\.weight"):
        read_beside(twice, NAMES)
    with pytest.raises(InputError, match="int64"):
        read_beside({"net": {"head.weight": torch.zeros(2, dtype=torch.int64)}}, NAMES)


def test_a_checkpoint_has_them_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = LAYOUTS["mae-decoder"](tmp_path)
    assert load_checkpoint(path).content.beside == {}
    content = load_checkpoint(path, beside={r"model\.(decoder_pred.+)": r"own.\1"}).content
    assert [*content.beside] == ["own.decoder_pred.weight", "own.decoder_pred.bias"]
    assert content.beside_fates == {"decoder_pred.weight", "decoder_pred.bias"}
    # Nothing else changes: what became of each tensor is what it was.
    assert content.fates == load_checkpoint(path).content.fates


def test_lightlys_mae_is_read_whose_decoder_has_its_embedding_beside_it(tmp_path: Path) -> None:
    vit = random_state(small_vit())
    state = {f"backbone.vit.{name}": value for name, value in vit.items()}
    state |= {
        "backbone.mask_token": torch.zeros(1, 1, 128),
        "decoder_embed.weight": torch.zeros(64, 128),
        "decoder_embed.bias": torch.zeros(64),
        "decoder.mask_token": torch.zeros(1, 1, 64),
        "decoder.pos_embed": torch.zeros(1, 17, 64),
        "decoder.norm.weight": torch.zeros(64),
        "prediction_head.weight": torch.zeros(192, 64),
    }
    torch.save({"state_dict": state}, tmp_path / "lightly.ckpt")
    content = load_checkpoint(tmp_path / "lightly.ckpt").content
    assert content.arch.width == SMALL.width
    assert content.state.keys() == vit.keys()
    left = {fate.name: fate.reason for fate in content.fates if not fate.target}
    assert left == {
        name: "mask token" if name.endswith("mask_token") else "head or decoder"
        for name in state
        if not name.startswith("backbone.vit.")
    }
