"""`bench step`: the ways it compares compute the same thing, and it writes what it measured."""

import json
from pathlib import Path

import pytest
import torch
from support import Run

from micl_bench.backbone import init_mae_, named_arch
from micl_bench.bench.step import embed_all_then_gather
from micl_bench.data.pixels import normalise
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.objectives.micl import MiCL
from micl_bench.patches import gather_patches


def test_the_plain_step_contrasts_the_same_features_as_ours() -> None:
    vit = named_arch("vit_demo_patch4_32").build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    images_NCHW = torch.randint(0, 256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    keep_NM = torch.rand(3, 64, generator=generator).argsort(dim=1)[:, :12]
    keep_NVK = keep_NM.reshape(3, 2, 6)
    patches_NMP = gather_patches(images_NCHW, keep_NVK, 4)
    plain_NVD = embed_all_then_gather(vit, normalise(images_NCHW), keep_NVK)
    ours_NVD = PretrainingModel(MiCL(), vit)(Seen(patches_NMP, keep_NVK))
    # fp32 sums in another order: 1e-6 an operation, through four blocks.
    torch.testing.assert_close(ours_NVD, plain_NVD, rtol=1e-4, atol=1e-5)


def test_what_it_measured_is_written(micl_bench: Run, tmp_path: Path) -> None:
    small = ("--arch", "vit_demo_patch4_32", "--mask-ratio", 0.5, "--batch", 4)
    words = ("--rounds", 1, "--steps", 1, "--precision", "bf16", "--json", "step.json")
    done = micl_bench("bench", "step", *small, *words)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "step.json").read_text())
    assert content["benchmark"] == "step"
    assert content["settings"]["mask_ratio"] == 0.5
    assert content["environment"]["torch"] == torch.__version__.partition("+")[0]
    names = [result["name"] for result in content["results"]]
    assert names == ["plain", "ours", "ours_with_data"]
    for result in content["results"]:
        speed, peak = result["images_per_second"], result["peak_flop_per_second"]
        expected = speed * result["flop_per_image"] / peak
        assert result["mfu"] == pytest.approx(expected, rel=0.01, abs=1e-4)  # rounded for people
        assert f"{speed:,.1f}" in done.stdout
    assert [result["precision"] for result in content["results"]] == ["fp32", "bf16", "bf16"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--arch", "vit_x", "no architecture is called 'vit_x'"),
        ("--mask-ratio", "1.5", "mask_ratio is 1.5"),
        ("--batch", "1", "batch is 1; needed: 2 or more"),
        ("--precision", "fp8", "precision is 'fp8'; needed: fp32 or bf16"),
    ],
)
def test_settings_that_make_no_sense(micl_bench: Run, option: str, value: str, words: str) -> None:
    done = micl_bench("bench", "step", option, value)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
