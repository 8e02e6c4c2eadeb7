"""The size of the input: the checkpoint's own unless it is stated, and any other is said at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY, Run, good

from micl_bench.backbone import Arch
from micl_bench.checkpoints import save_checkpoint
from micl_bench.checkpoints._checkpoint import _say_once
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import Request, running

TASKS = ("finetune", "knn", "linear", "logistic", "representation", "robustness")
SIZES: dict[str, Any] = {"patch_size": 8, "width": 64, "depth": 1, "num_heads": 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network that was trained at 48 pixels, a size that no recipe has."""
    arch = Arch(name="small", img_size=48, **SIZES)
    save_checkpoint(tmp_path / "48.pt", arch.build().eval(), arch, method="small", provenance={})
    return tmp_path / "48.pt"


def opened(task: str, checkpoint: Path, *overrides: str, recipe: Path | None = None) -> Any:
    _say_once.cache_clear()
    places = {"data": Path("none"), "out": Path("none"), "recipe": recipe}
    request = Request(checkpoint=str(checkpoint), overrides=overrides, **places)
    return request.open(running(task).RECIPE)


@pytest.mark.parametrize("task", TASKS)
def test_without_a_size_the_checkpoints_own_is_used_without_a_word(
    task: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = opened(task, checkpoint)
    assert found.pixels.img_size == 48
    assert capsys.readouterr().err == ""
    # What else the recipe says of pixels is kept.
    assert opened(task, checkpoint, "pixels.crop_pct=0.5").pixels.crop_pct == 0.5


@pytest.mark.parametrize("task", TASKS)
def test_another_size_is_said_in_one_line(
    task: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = opened(task, checkpoint, "pixels.img_size=24")
    assert found.pixels.img_size == 24
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"images are read at 24 px, {checkpoint} was trained at 48 px")
    opened(task, checkpoint, "pixels.img_size=48")
    assert capsys.readouterr().err == ""


def test_a_recipe_that_states_a_size_keeps_it_and_it_is_said(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = REPOSITORY / "downstream" / "imagenet_knn.py"
    assert opened("knn", checkpoint, recipe=recipe).pixels.img_size == 224
    assert "read at 224 px" in capsys.readouterr().err
    own = opened("knn", checkpoint, "pixels.img_size=0", recipe=recipe)
    assert own.pixels.img_size == 48


@pytest.mark.parametrize("size", [1, 12, 50])
def test_a_size_of_no_whole_number_of_patches_is_refused_at_once(
    checkpoint: Path, size: int
) -> None:
    nearest = max(1, size // 8) * 8
    with pytest.raises(InputError, match=f"no multiple of patch_size 8; nearest: {nearest}$"):
        opened("knn", checkpoint, f"pixels.img_size={size}")


def test_the_command_records_the_size_that_was_used(
    micl_bench: Run, few_digits: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", checkpoint, "--data", few_digits, "--set", "k=5")
    done = good(micl_bench("eval", "knn", *words, "--out", "own"))
    assert "images are read at" not in done.stderr
    (path,) = (tmp_path / "own").glob("knn-*.json")
    text = path.read_text()
    assert '"img_size": 48' in text
    assert '"img_size": 0' not in text
    assert "48 px" in done.stdout or "48 px" in text
    images = ("--checkpoint", checkpoint, "--images", few_digits / "val", "--out", "f.npz")
    done = micl_bench("features", *images, "--img-size", 24, "--pool", "tokens")
    assert "images are read at 24 px" in done.stderr.splitlines()[0]
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["features"].shape == (40, 10, 64)
