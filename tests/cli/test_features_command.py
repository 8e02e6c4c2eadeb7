"""`micl-bench features`: any images in, the same bytes out."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support import Run, good, refused

from micl_bench.backbone import Arch
from micl_bench.checkpoints import save_checkpoint
from micl_bench.data.source import open_images
from micl_bench.runtime.errors import InputError

SIZES = {"img_size": 32, "patch_size": 8, "depth": 2}


@pytest.fixture
def checkpoint(tmp_path: Path) -> torch.nn.Module:
    """A small model with registers, saved as model.pt."""
    torch.manual_seed(0)
    arch = Arch(name="small", **SIZES, width=64, num_heads=1, num_registers=2)
    model = arch.build().eval()
    save_checkpoint(tmp_path / "model.pt", model, arch, method="small", provenance={})
    return model


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three images, no class folders."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("b.png", "a ä.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def expected_tokens(model: torch.nn.Module, path: Path) -> torch.Tensor:
    """By timm's and torchvision's own code."""
    transform = timm.data.create_transform(
        (3, 32, 32), crop_pct=1.0, interpolation="bicubic", is_training=False
    )
    with Image.open(path) as image, torch.inference_mode():
        return model.forward_features(transform(image.convert("RGB"))[None])[0]


def test_every_pooling_of_a_folder_of_images(
    micl_bench: Run, checkpoint: torch.nn.Module, photographs: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", "model.pt", "--images", photographs, "--crop-pct", 1)
    tokens = {path.name: expected_tokens(checkpoint, path) for path in photographs.glob("*.png")}
    pooled = {
        "tokens": lambda tokens_TD: tokens_TD,
        "cls": lambda tokens_TD: tokens_TD[0],
        "avg": lambda tokens_TD: tokens_TD[3:].mean(dim=0),
    }
    for pool, read in pooled.items():
        good(micl_bench("features", *words, "--pool", pool, "--out", f"{pool}.npz"))
        with np.load(tmp_path / f"{pool}.npz", allow_pickle=False) as arrays:
            assert arrays.files == ["features", "files"]
            assert arrays["files"].tolist() == ["a ä.png", "b.png", "c.png"]
            found = torch.from_numpy(arrays["features"])
        expected = torch.stack([read(tokens[name]) for name in ("a ä.png", "b.png", "c.png")])
        assert found.dtype == torch.float32
        # All 16 patches: nothing is masked.
        assert pool != "tokens" or found.shape == (3, 1 + 2 + 16, 64)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    before = (tmp_path / "tokens.npz").read_bytes()
    done = micl_bench("features", *words, "--pool", "tokens", "--batch-size", 2, "--out", "again")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again").read_bytes() == before


def test_class_folders_and_single_images(
    micl_bench: Run, checkpoint: torch.nn.Module, few_digits: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", "model.pt", "--img-size", 40)
    done = micl_bench("features", *words, "--images", few_digits / "val", "--out", "val.npz")
    assert done.returncode == 0, done.stderr
    assert "40 x 64" in done.stdout
    with np.load(tmp_path / "val.npz", allow_pickle=False) as arrays:
        assert arrays["features"].shape == (40, 64)
        assert arrays["labels"].tolist() == [digit for digit in range(10) for _ in range(4)]
        assert arrays["classes"].tolist() == [f"digit_{digit}" for digit in range(10)]
        name, features_D = arrays["files"][7], arrays["features"][7]
    done = micl_bench("features", *words, "--images", few_digits / "val" / name, "--out", "1.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert arrays["files"].tolist() == [Path(name).name]
        assert np.array_equal(arrays["features"][0], features_D)


def test_what_cannot_be_is_told_in_a_line(
    micl_bench: Run, checkpoint: torch.nn.Module, photographs: Path, tmp_path: Path
) -> None:
    del checkpoint
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed" / "cats").mkdir(parents=True)
    (tmp_path / "mixed" / "dog.png").write_bytes((photographs / "b.png").read_bytes())
    for images, words in (
        (tmp_path / "none", "no image and no folder at"),
        (tmp_path / "empty", "empty holds neither images nor class folders"),
        (tmp_path / "mixed", r"mixed holds images and folders \(dog.png, cats\)"),
    ):
        with pytest.raises(InputError, match=words):
            open_images(images)
    for words, complaint in (
        (("--out", "empty"), "error: empty is a folder; give the name of the .npz file"),
        (("--out", "out.npz", "--img-size", 0), "--img-size"),
    ):
        image = ("--images", photographs / "b.png")
        done = refused(micl_bench("features", "--checkpoint", "model.pt", *image, *words))
        assert complaint in done.stderr
        assert not (tmp_path / "out.npz").exists()
    for image, pool, words in (
        (photographs / "b.png", "max", "error: pool is 'max'; allowed: cls, avg, tokens"),
        (photographs / "notes.txt", "cls", "is no readable image"),
    ):
        options = ("--checkpoint", "model.pt", "--images", image, "--pool", pool)
        done = refused(micl_bench("features", *options, "--out", "out.npz"))
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out.npz").exists()


def test_features_that_are_not_finite_are_refused(
    micl_bench: Run, checkpoint: torch.nn.Module, photographs: Path, tmp_path: Path
) -> None:
    """Finite weights, but products beyond what fp32 holds."""
    arch = Arch(name="small", **SIZES, width=64, num_heads=1, num_registers=2)
    with torch.no_grad():
        checkpoint.patch_embed.proj.weight.fill_(3e38)
    save_checkpoint(tmp_path / "model.pt", checkpoint, arch, method="small", provenance={})
    options = ("--checkpoint", "model.pt", "--images", photographs, "--out", "out.npz")
    done = refused(micl_bench("features", *options))
    assert done.stderr.endswith("error: model.pt gives features that are not finite\n")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("precision", ["fp8", "FP32", ""])
def test_an_unknown_precision_is_refused_before_anything_is_read(
    micl_bench: Run, tmp_path: Path, precision: str
) -> None:
    words = ("--checkpoint", "none.pt", "--images", "none", "--out", "x.npy")
    done = refused(micl_bench("features", *words, "--precision", precision))
    assert done.stderr == f"error: --precision is {precision!r}; allowed: fp32, bf16\n"
