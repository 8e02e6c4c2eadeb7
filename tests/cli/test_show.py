"""`micl-bench show views`: the picture's own pixels, counted, and one line for each mistake."""

import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support import REPOSITORY, exit_code

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.view_pictures import find_images, views_of_images
from micl_bench.patches import unpatchify
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.shipped import recipe_file
from micl_bench.views import draw_views

EMBEDDED = REPOSITORY / "pretrain" / "embedded.py"
LARGE = REPOSITORY / "pretrain" / "imagenet_vit_l16_code.py"
HIDDEN = np.array([205, 205, 205])

Pixels = NDArray[np.uint8]


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def patch_colours(grid: int) -> Pixels:
    """A colour of its own for each patch, none of them grey: (grid, grid, 3)."""
    number = np.arange(grid * grid).reshape(grid, grid)
    return np.stack([255 - number, number, number // 2], axis=-1).astype(np.uint8)


def show(*words: object) -> None:
    assert exit_code("show", "views", *words) == 0


def runs(hit: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.r_[0, hit.astype(int), 0]))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def view_cells(picture: Path, grid: int) -> list[Pixels]:
    """The colour at the centre of each patch, for every view in a picture of one image.

    Views are found by their grey: in no other place of the picture does a line hold so much of it.
    """
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    grey = (pixels == HIDDEN).all(-1)
    rows = np.flatnonzero(grey.sum(1) > 60)
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    centres = (np.arange(grid) + 0.5) / grid
    y = (top + centres * (bottom - top)).astype(int)
    return [
        pixels[np.ix_(y, (left + centres * (right - left)).astype(int))]
        for left, right in runs(grey[top:bottom].sum(0) > 30)
    ]


def test_a_view_shows_its_own_patches_in_their_places_and_nothing_else(tmp_path: Path) -> None:
    colours = patch_colours(8)
    save(tmp_path / "in" / "x.png", colours.repeat(4, axis=0).repeat(4, axis=1))
    show("--images", tmp_path / "in", "--recipe", EMBEDDED, "--out", tmp_path / "v.png")
    cells = view_cells(tmp_path / "v.png", 8)
    visible = [(cell != HIDDEN).any(-1) for cell in cells]
    assert [int(seen.sum()) for seen in visible] == [16, 16]
    assert not (visible[0] & visible[1]).any()
    for cell, seen in zip(cells, visible, strict=True):
        assert (cell[seen] == colours[seen]).all()
    drawn = draw_views(42, 0, np.array([0]), num_patches=64, num_views=2, mask_ratio=0.5)
    for seen, keep_K in zip(visible, drawn[0].tolist(), strict=True):
        assert np.flatnonzero(seen).tolist() == sorted(keep_K)


@pytest.mark.parametrize(
    ("sets", "expected"), [((), [9, 9]), (("objective.num_views=3",), [6] * 3)]
)
def test_a_large_image_shows_few_of_196_patches(
    tmp_path: Path, sets: tuple[str, ...], expected: list[int]
) -> None:
    save(tmp_path / "in" / "x.png", np.full((300, 400, 3), (250, 120, 0)))
    overrides = [word for value in sets for word in ("--set", value)]
    out = tmp_path / "v.png"
    show("--images", tmp_path / "in", "--recipe", LARGE, "--out", out, *overrides)
    cells = view_cells(out, 14)
    assert [int((cell != HIDDEN).any(-1).sum()) for cell in cells] == expected
    for cell in cells:
        assert (cell[(cell != HIDDEN).any(-1)] == (250, 120, 0)).all()


def test_arrays_are_the_evaluation_crop_and_the_views_of_the_position_in_the_list(
    tmp_path: Path,
) -> None:
    recipe = load_recipe(LARGE, PretrainRecipe)
    noise = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    paths = [save(tmp_path / f"{i}.png", image) for i, image in enumerate(noise)]
    arrays = views_of_images(recipe, paths)
    # 224 / 0.875 is 256: nothing is resized, 16 pixels fall away on each side.
    assert (arrays["images_NHWC"] == noise[:, 16:-16, 16:-16]).all()
    assert arrays["images_NHWC"].dtype == np.uint8
    assert arrays["keep_NVK"].shape == (2, 2, 9)
    assert int(arrays["patch_size"]) == 16
    second = draw_views(42, 0, np.array([1]), num_patches=196, num_views=2, mask_ratio=0.9)
    assert (arrays["keep_NVK"][1] == second[0].numpy()).all()
    assert (arrays["keep_NVK"][0] != arrays["keep_NVK"][1]).any()


def test_views_that_are_crops_of_their_own_are_shown_as_training_sees_them(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    paths = [save(tmp_path / "in" / f"{i}.png", image) for i, image in enumerate(noise)]
    recipe = load_recipe(recipe_file("embedded_simclr"), PretrainRecipe)
    arrays = views_of_images(recipe, paths)
    assert arrays["crops_NVHWC"].shape == (2, 2, 32, 32, 3)
    wants = recipe.objective.build().wants(recipe.sized_arch())
    seen = wants.of_images(torch.from_numpy(noise).permute(0, 3, 1, 2), np.arange(2), seed=42)
    crops_BCHW = unpatchify(seen.visible_NMP.view(4, 64, 48), 4)
    difference = (
        arrays["crops_NVHWC"].reshape(4, 32, 32, 3) - crops_BCHW.permute(0, 2, 3, 1).numpy()
    )
    assert np.abs(difference).max() <= 0.5
    show("--images", tmp_path / "in", "--recipe", "embedded_simclr", "--out", tmp_path / "v.png")
    assert (tmp_path / "v.png").stat().st_size > 1000


def test_local_crops_are_shown_enlarged_beside_the_global_ones(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    paths = [save(tmp_path / "in" / f"{i}.png", image) for i, image in enumerate(noise)]
    recipe = load_recipe(recipe_file("embedded_dino"), PretrainRecipe)
    arrays = views_of_images(recipe, paths)
    names = arrays["names_V"].tolist()
    assert names[:3] == ["global 1", "global 2", "local 1"]
    assert arrays["crops_NVHWC"].shape == (2, len(names), 32, 32, 3)
    wants = recipe.objective.build().wants(recipe.sized_arch())
    seen = wants.of_images(torch.from_numpy(noise).permute(0, 3, 1, 2), np.arange(2), seed=42)
    assert seen.local
    crops_BChw = unpatchify(seen.local.visible_NMP.view(-1, 16, 48), 4)
    small = crops_BChw.unflatten(0, (2, -1))[1, 0].permute(1, 2, 0).numpy()
    found = arrays["crops_NVHWC"][1, 2].astype(float)
    assert np.abs(found - small.repeat(2, axis=0).repeat(2, axis=1)).max() <= 0.5
    show("--images", tmp_path / "in", "--recipe", "embedded_dino", "--out", tmp_path / "v.png")
    assert (tmp_path / "v.png").stat().st_size > 1000


PARTS = """
import dataclasses
import torch
from micl_bench.objectives import disjoint_views
from micl_bench.objectives.micl import MiCL
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.shipped import recipe_file
from micl_bench.engine.pretraining.recipe import PretrainRecipe

class Hidden(MiCL):
    name = "Hidden"

    class Config(MiCL.Config):
        pass

    def wants(self, arch):
        whole = disjoint_views(arch, num_views=1, mask_ratio=0)
        corner = lambda seed, epoch, index_N: {"first": torch.as_tensor(index_N)[:, None]}
        return dataclasses.replace(whole, more=corner)

    def sees(self, arch):
        return f"{arch.num_patches // 4} of {arch.num_patches} patches visible"

    def sees_in_full(self, arch):
        return self.sees(arch)

    def shown(self, keep_NVK, drawn):
        K = keep_NVK.shape[2] // 4
        return {
            "visible": keep_NVK[:, 0, :K], "target": keep_NVK[:, 0, K:], "first": drawn["first"]
        }

shipped = load_recipe(recipe_file("embedded"), PretrainRecipe)
recipe = dataclasses.replace(shipped, objective=Hidden.Config(mask_ratio=0.5))
"""


def test_an_objective_without_views_says_and_shows_its_own_parts(tmp_path: Path) -> None:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    recipe = load_recipe(path, PretrainRecipe)
    lines = recipe.describe(recipe.plan(steps_per_epoch=1)).splitlines()
    assert lines[0] == "vit_demo_patch4_32 at 32 px: 16 of 64 patches visible"
    images = [
        save(tmp_path / "in" / f"{i}.png", patch_colours(8).repeat(4, 0).repeat(4, 1))
        for i in range(2)
    ]
    arrays = views_of_images(recipe, images)
    assert arrays["names_V"].tolist() == ["visible", "target", "first"]
    visible, target, first = arrays["keep_NVK"][1].tolist()
    order = draw_views(42, 0, np.array([1]), num_patches=64, num_views=1, mask_ratio=0)
    # A part of fewer patches than another repeats its last one.
    assert visible == [*visible[:16], *visible[15:16] * 32]
    assert visible[:16] + target == order.flatten().tolist()
    assert set(first) == {1}
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        show("--images", tmp_path / "in", "--recipe", path, "--out", tmp_path / "v.svg")
    text = (tmp_path / "v.svg").read_text()
    assert ">parts.py: mask ratio 0.5; 16 of 64 patches visible<" in text
    assert all(f">{name}<" in text for name in ("visible", "target", "first"))


def test_images_are_spread_over_the_folder_whatever_its_layout(tmp_path: Path) -> None:
    small = np.zeros((4, 4, 3))
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png", "c/5.png"):
        save(tmp_path / "classes" / name, small)
        save(tmp_path / "flat" / Path(name).name, small)
    for name in ("notes.txt", "notes.pdf", ".hidden"):
        (tmp_path / "flat" / name).write_text("no image")
    for folder in (tmp_path / "classes", tmp_path / "flat"):
        assert [path.stem for path in find_images(folder, number=3)] == ["1", "3", "5"]
        assert [path.stem for path in find_images(folder, number=9)] == list("12345")


def test_any_file_name_is_written_below_its_image(tmp_path: Path) -> None:
    save(tmp_path / "in" / os.fsdecode(b"$x$ \xff.png"), np.zeros((32, 32, 3)))
    save(tmp_path / "in" / f"{'long' * 30}.png", np.zeros((32, 32, 3)))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        show("--images", tmp_path / "in", "--recipe", EMBEDDED, "--out", tmp_path / "v.svg")
    text = (tmp_path / "v.svg").read_text()
    assert ">$x$ \\xff.png<" in text
    assert f">...{('long' * 30)[-33:]}.png<" in text


def test_every_format_is_what_its_name_says_and_repeats_byte_for_byte(
    few_digits: Path, tmp_path: Path
) -> None:
    for suffix in ("png", "pdf", "SVG"):
        for name in ("one", "two"):
            out = tmp_path / name / f"v.{suffix}"
            show("--images", few_digits / "val", "--recipe", EMBEDDED, "--out", out, "--number", 4)
        content = out.read_bytes()
        assert content == (tmp_path / "one" / f"v.{suffix}").read_bytes()
        if suffix == "SVG":
            root = ET.fromstring(content)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            # Four images with two views each, pasted into one.
            assert len(root.findall(".//{http://www.w3.org/2000/svg}image")) == 1
        else:
            assert content.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[suffix])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--out": "v.jpg"}, "must end in one of: .png, .pdf, .svg"),
        ({"--out": "v"}, "must end in one of"),
        ({"--out": "folder.png"}, "is a folder"),
        ({"--images": "missing"}, "no image and no folder at missing"),
        ({"--images": "empty"}, "holds neither images nor class folders"),
        ({"--images": "damaged"}, "bad.png is no readable image"),
        ({"--recipe": "missing.py"}, "no recipe file at missing.py"),
        ({"--recipe": "other.py"}, "must assign `recipe` a PretrainRecipe"),
        ({"--number": "0"}, "--number"),
        ({"--set": "objective.mask_ratio=0.99"}, "leaves no patch"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "damaged", "folder.png"):
        Path(name).mkdir()
    Path("damaged", "bad.png").write_bytes(b"no image")
    Path("other.py").write_text("recipe = 1\n")
    before = sorted(tmp_path.rglob("*"))
    options = {"--images": str(few_digits / "val"), "--recipe": str(EMBEDDED), "--out": "v.png"}
    given = [word for pair in (options | changed).items() for word in pair]
    assert exit_code("show", "views", *given) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_without_matplotlib_it_says_how_to_get_it(
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in list(sys.modules):
        if name.startswith(("micl_bench.report.", "matplotlib")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ("--images", few_digits / "val", "--recipe", EMBEDDED, "--out", tmp_path / "v.png")
    assert exit_code("show", "views", *words) == 2
    message = capsys.readouterr().err
    assert message == "error: a picture needs matplotlib: pip install 'micl-bench[report]'\n"
