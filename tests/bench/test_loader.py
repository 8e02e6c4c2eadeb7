"""`bench loader` measures what it says: real files, real stores, the input that training takes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import Run

from micl_bench.bench.loader import LoaderSettings, input_batches, write_photographs
from micl_bench.data.packed.store import open_store
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise
from micl_bench.patches import gather_patches
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import epoch_order
from micl_bench.views import draw_views

NAMES = ["folder_pil", "store_image", "store_patch"]


def test_the_command_tells_three_figures_of_one_run(micl_bench: Run, tmp_path: Path) -> None:
    options = ["--images", 4, "--batch", 2, "--img-size", 32, "--patch-size", 8]
    options += ["--store-size", 40, "--mask-ratio", 0.5, "--rounds", 1, "--seconds", 0.01]
    found = micl_bench("bench", "loader", *options, "--json", tmp_path / "figures" / "loader.json")
    assert found.returncode == 0, found.stderr
    content = json.loads((tmp_path / "figures" / "loader.json").read_text())
    assert content["benchmark"] == "loader"
    assert [result["name"] for result in content["results"]] == NAMES
    assert all(result["images_per_second_per_core"] > 0 for result in content["results"])
    assert content["settings"]["mask_ratio"] == 0.5
    assert content["settings"]["batch"] == 2
    assert {"processor", "cores", "torch"} <= content["environment"].keys()
    header, _, *rows = found.stdout.splitlines()
    lines = [header, *rows]
    assert [line.split()[0] for line in lines] == ["name", *NAMES]
    assert lines[1].split()[-1] == "1.0"


def test_each_way_gives_normalised_input_of_the_same_photographs(tmp_path: Path) -> None:
    settings = LoaderSettings(images=4, batch=4, store_size=128, img_size=64, mask_ratio=0.75)
    batches = {name: next(way) for name, way in input_batches(tmp_path, settings).items()}
    assert list(batches) == NAMES
    assert batches["folder_pil"].shape == (4, 3, 64, 64)
    # 16 patches, of which two views keep two each.
    assert batches["store_image"].shape == batches["store_patch"].shape == (4, 4, 768)
    darkest, brightest = torch.tensor(IMAGENET_MEAN), 1 - torch.tensor(IMAGENET_MEAN)
    std = torch.tensor(IMAGENET_STD)
    for batch in batches.values():
        assert batch.dtype == torch.float32
        # Photographs reach both ends of the range nearly, and nothing passes them but by rounding.
        assert -(darkest / std).max() - 1e-5 <= batch.min() < -1
        assert 1 < batch.max() <= (brightest / std).max() + 1e-5


def test_patches_are_the_views_of_the_store(tmp_path: Path) -> None:
    settings = LoaderSettings(images=4, batch=3, store_size=64, img_size=64, mask_ratio=0.75)
    found = next(input_batches(tmp_path, settings)["store_patch"])
    index_N = epoch_order(0, 0, 4)[:3]
    keep_NVK = draw_views(0, 0, index_N, num_patches=16, mask_ratio=0.75)
    images_NCHW = normalise(open_store(tmp_path / "patch").images(index_N))
    assert torch.equal(found, gather_patches(images_NCHW, keep_NVK, 16))


def test_photographs_are_of_the_size_of_imagenets(tmp_path: Path) -> None:
    write_photographs(tmp_path, 4)
    paths = sorted(tmp_path.glob("*/*.jpg"))
    assert len(paths) == len({path.read_bytes() for path in paths}) == 4
    for path in paths:
        with Image.open(path) as image:
            assert (image.size, image.format, image.mode) == ((500, 375), "JPEG", "RGB")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 300}, "the batch is 300, of 256 images; needed: 1 to 256"),
        ({"rounds": 0}, "rounds is 0"),
        ({"seconds": 0.0}, "seconds is 0.0; needed: above 0"),
        ({"patch_size": 15}, "patch_size is 15; needed: one that divides img_size, 224"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"mask_ratio": 0.999}, "mask_ratio 0.999 leaves no patch"),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoaderSettings(**wrong)
