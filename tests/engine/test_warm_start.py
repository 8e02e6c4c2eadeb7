"""Pre-training that starts from a checkpoint: what is taken, what is said, what the record tells."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.layouts import random_state
from support import REPOSITORY, Run, good, overrides, refused

from micl_bench.backbone import named_arch, resample_positions, sincos_positions
from micl_bench.checkpoints import load_checkpoint
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.records import run_settings
from micl_bench.engine.pretraining.warm_start import as_start, load_start
from micl_bench.records.result import Result, read_result
from micl_bench.report.frame.lineage import Lineage
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe

ARCH = named_arch("vit_demo_patch4_32")
# A rate that moves nothing, so that what is left is what was taken.
STILL = (
    "batch_size=16", "epochs=1", "knn_every_epochs=0",
    "optim.base_lr=1e-12", "optim.weight_decay=0",
)  # fmt: skip


@pytest.fixture
def mae(tmp_path: Path) -> Path:
    """A file as MAE's code publishes it with its decoder, of 4 heads, which its shapes do not tell."""
    encoder = random_state(ARCH.build())
    encoder["pos_embed"] = torch.cat([torch.zeros(1, 128), sincos_positions(8, 128)])[None]
    decoder = random_state(dataclasses.replace(ARCH, width=64, depth=1, num_heads=1).build())
    blocks = {f"decoder_{n}": v for n, v in decoder.items() if n.startswith(("blocks.", "norm."))}
    content = {
        **encoder,
        **blocks,
        "mask_token": torch.randn(1, 1, 64),
        "decoder_pos_embed": torch.randn(1, 65, 64),
        "decoder_embed.weight": torch.randn(64, 128),
        "decoder_embed.bias": torch.randn(64),
        "decoder_pred.weight": torch.randn(48, 64),
        "decoder_pred.bias": torch.randn(48),
    }
    torch.save({"model": content}, tmp_path / "mae.pth")
    return tmp_path / "mae.pth"


def words(data: Path, out: Path, init: object, *more: str, recipe: str = "embedded") -> list[Any]:
    start = ["--init", init] if init else []
    words = ["pretrain", recipe, "--data", data, "--out", out, *start]
    return [*words, *overrides(*STILL, *more)]


def record_in(out: Path) -> Result:
    (path,) = out.glob("pretrain-*.json")
    return read_result(path)


def test_maes_own_file_starts_it_and_is_an_earlier_stage(
    micl_bench: Run, mae: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = good(micl_bench(*words(few_digits, out, mae)))
    content = torch.load(mae, weights_only=False)["model"]
    encoder = {name for name in content if "decoder" not in name and name != "mask_token"}
    left = len(content) - len(encoder)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("starting from")]
    assert line.endswith(
        f"(mae, MAE): {len(encoder)} tensors of the backbone taken, {left} (decoder) left"
    )
    model = torch.load(out / "backbone.pt", weights_only=True)["model"]
    assert model.keys() == encoder
    for name in encoder:
        torch.testing.assert_close(model[name], content[name], rtol=0, atol=1e-6)

    record = record_in(out)
    first, last = record.checkpoint.origin
    assert (first.task, first.method) == ("initialise", "MAE")
    assert (last.task, last.method) == ("pretrain", "MiCL")
    assert first.settings["weights"] == load_checkpoint(mae).info.digest
    assert record.settings["init"] == [first.fingerprint]
    assert record.protocol.endswith("from MAE")
    assert line.endswith(record.details["init"])
    assert load_checkpoint(out / "backbone.pt").content.origin == (first, last)
    assert Lineage([record]).record_of(last) == record

    # The start is part of whose folder it is.
    assert "nothing to do" in micl_bench(*words(few_digits, out, mae)).stderr
    for other in (None, f"random:{ARCH.name}"):
        second = refused(micl_bench(*words(few_digits, out, other)))
        assert "another recipe or other data (what differs: init digest)" in second.stderr


OWN = ("objective.decoder_depth=1", "objective.decoder_width=64")


def test_mae_goes_on_with_the_decoder_of_the_file_too(
    micl_bench: Run, mae: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = good(micl_bench(*words(few_digits, out, mae, *OWN, recipe="embedded_mae")))
    content = torch.load(mae, weights_only=False)["model"]
    own = {name for name in content if "decoder" in name or name == "mask_token"}
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("starting from")]
    assert line.endswith(
        f"(mae, MAE): {len(content) - len(own)} tensors of the backbone and {len(own)} tensors of MAE's "
        "own modules taken, none left"
    )
    assert line.endswith(record_in(out).details["init"])
    state = States(out / "states").newest()
    assert state
    for name in own:
        found = state["model"][f"added.{name}"]
        torch.testing.assert_close(found, content[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("objective.decoder_depth=2",),
            "MAE's own modules start anew, as decoder_blocks.1.norm1.weight is missing",
        ),
        (
            ("objective.decoder_width=32",),
            "MAE's own modules start anew, as mask_token is (1, 1, 64), needed (1, 1, 32)",
        ),
    ],
)
def test_a_decoder_of_another_shape_is_left_and_named(
    micl_bench: Run,
    mae: Path,
    few_digits: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "out"
    done = good(micl_bench(*words(few_digits, out, mae, *OWN, *more, recipe="embedded_mae")))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("starting from")]
    content = torch.load(mae, weights_only=False)["model"]
    left = sum("decoder" in name or name == "mask_token" for name in content)
    assert f"tensors of the backbone taken, {left} (decoder) left; {said}" in line
    assert line.count(" needed ") <= 5
    state = States(out / "states").newest()
    assert state
    first = state["model"]["added.decoder_embed.weight"]
    assert not torch.equal(first[:32], content["decoder_embed.weight"][:32])


def test_a_file_without_a_decoder_gives_its_backbone(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    out, start = tmp_path / "out", f"random:{ARCH.name}"
    done = good(micl_bench(*words(few_digits, out, start, *OWN, recipe="embedded_mae")))
    assert (
        "tensors of the backbone taken, none left; decoder_blocks, decoder_embed, decoder_norm, "
        "decoder_pos_embed, decoder_pred, mask_token of MAE start anew" in done.stderr
    )


def test_positions_come_to_another_input_size_as_in_evaluation(
    micl_bench: Run, mae: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = good(micl_bench(*words(few_digits, out, mae, "pixels.img_size=64")))
    assert "its positions are brought to 16 x 16 patches" in done.stderr
    found = torch.load(out / "backbone.pt", weights_only=True)["model"]["pos_embed"]
    stored = torch.load(mae, weights_only=False)["model"]["pos_embed"]
    # MAE's code does not antialias.
    assert torch.equal(found, resample_positions(stored, grid=16, antialias=False))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("arch=vit_small_patch16_224",), "patch_size 4, needed 16; width 128, needed 384"),
        (("arch=vit_tiny_patch16_224",), "depth 4, needed 12"),
    ],
)
def test_other_sizes_are_refused_in_one_line_before_the_data_are_opened(
    micl_bench: Run, mae: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    done = refused(micl_bench(*words(tmp_path / "no data", tmp_path / "out", mae, *more)))
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: --init {mae} does not fit {more[0].removeprefix('arch=')}: ")
    assert said in line


def test_a_format_without_a_checkpoint_is_refused(micl_bench: Run, tmp_path: Path) -> None:
    done = refused(micl_bench(*words(tmp_path, tmp_path / "out", None), "--format", "mae"))
    assert "give --init too" in done.stderr


def test_our_own_trainings_follow_each_other(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for out, init in ((first, f"random:{ARCH.name}"), (second, first / "backbone.pt")):
        done = good(micl_bench(*words(few_digits, out, init)))
    assert "tensors of the backbone taken, none left" in done.stderr
    before, after = record_in(first), record_in(second)
    assert [one.task for one in before.checkpoint.origin] == ["initialise", "pretrain"]
    assert after.checkpoint.origin[:2] == before.checkpoint.origin
    lineage = Lineage([before, after])
    assert [lineage.record_of(one) for one in after.checkpoint.origin] == [None, before, after]
    assert before.fingerprint != after.fingerprint


def test_starts_that_differ_in_their_seed_alone_are_of_one_fingerprint() -> None:
    recipe = load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe)
    start = as_start(load_start(f"random:{ARCH.name}", recipe.sized_arch()))
    (stage,) = start.content.origin
    other = dataclasses.replace(
        start,
        content=dataclasses.replace(start.content, origin=(dataclasses.replace(stage, seed=7),)),
    )
    assert run_settings(recipe, start) == run_settings(recipe, other)
    assert run_settings(recipe, start) != run_settings(recipe, None)
    assert json.loads(json.dumps(run_settings(recipe, start))) == run_settings(recipe, start)
