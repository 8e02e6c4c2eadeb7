"""Input that would give a number nobody should believe is refused, or read as it was meant."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import REPOSITORY, Run, good, refused

from micl_bench.backbone import named_arch
from micl_bench.checkpoints import load_backbone, load_checkpoint, save_checkpoint
from micl_bench.data.folder import read_image
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.runs.optim import OptimConfig
from micl_bench.runtime.errors import InputError

ARCH = "vit_demo_patch4_32"


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_pixels_of_more_than_eight_bits_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "deep.tif"
    values = np.linspace(0, 1, 64).reshape(8, 8)
    deep = values.astype(np.float32) if mode == "F" else (values * 65535).astype(np.uint16)
    Image.fromarray(deep).save(path)
    with pytest.raises(InputError, match="more than 8 bits"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_other_modes_are_read_as_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("ä b." + ("jpg" if mode == "CMYK" else "png"))
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    assert np.asarray(image).min() > 250


def test_the_state_of_an_unfinished_run_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    state = named_arch(ARCH).build().state_dict()
    torch.save({"step": 3, "optimizer": {}, "model": state}, path)
    with pytest.raises(InputError, match="unfinished run"):
        load_checkpoint(path)


def test_a_file_goes_by_its_own_name_where_it_does_not_say_more(tmp_path: Path) -> None:
    path = tmp_path / "rival.pth"
    arch = named_arch("vit_small_patch16_224")
    torch.save(arch.build().state_dict(), path)
    assert load_checkpoint(path).method == "rival"


def test_a_mean_pooled_classifier_is_a_backbone_again(tmp_path: Path) -> None:
    arch = named_arch(ARCH)
    start = load_checkpoint(f"random:{ARCH}")
    options = {"num_classes": 3, "img_size": 32, "drop_path": 0.0, "pool": "avg", "seed": 0}
    model = start.with_new_head(**options)
    path = tmp_path / "avg.pt"
    save_checkpoint(path, model, arch, method="MiCL", provenance={})
    images_NCHW = torch.randn(2, 3, 32, 32)
    expected = start.backbone().forward_features(images_NCHW)
    assert torch.equal(load_backbone(path).forward_features(images_NCHW), expected)
    load_checkpoint(path).with_new_head(**options)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_senseless_rates_are_refused(value: float) -> None:
    with pytest.raises(InputError):
        OptimConfig(base_lr=value)
    with pytest.raises(InputError):
        ProbeConfig(base_lrs=(value,))


def test_classes_are_matched_by_name_and_results_never_mix(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path
) -> None:
    recipe = REPOSITORY / "downstream" / "embedded_finetune.py"
    words = ("--checkpoint", f"random:{ARCH}", "--data", few_digits, "--recipe", recipe)
    short = ("--set", "training.epochs=1", "--set", "training.batch_size=40")
    done = good(micl_bench("eval", "finetune", *words, *short, "--out", "tuned"))
    again = micl_bench("eval", "finetune", *words, *short, "--out", "tuned")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "this command has written it before; nothing to do" in again.stderr
    for task, more, message in (
        ("finetune", ("--set", "seed=1"), "holds a finetune result of another command already"),
        ("linear", (), "holds a finetune result, whose files linear would replace"),
    ):
        other = refused(micl_bench("eval", task, *words, *more, "--out", "tuned"))
        assert message in other.stderr
    # A class renamed in every folder: positions would shift, names tell.
    data = tmp_path / "data"
    for part in ("embedded/val", "embedded-a", "embedded-r", "embedded-sketch"):
        shutil.copytree(embedded / part, data / part)
        if (data / part / "digit_0").exists():
            (data / part / "digit_0").rename(data / part / "z_zero")
    recipe = REPOSITORY / "downstream" / "embedded_robustness.py"
    words = ("--checkpoint", "tuned/classifier.pt", "--data", data, "--recipe", recipe)
    done = refused(micl_bench("eval", "robustness", *words, "--out", "robust"))
    assert "classes unknown in training: z_zero" in done.stderr
