"""Pre-training: the same losses however the run is cut, killed or parallelised."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Run

from micl_bench.config import load_recipe, override
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches, training_batches
from micl_bench.engine.pretrain import Pretrainer
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.errors import InputError
from micl_bench.log import read_metrics

SMALL = ("batch_size=16", "epochs=3", "knn_every_epochs=2", "save_every_steps=2", "knn_k=5")


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def recipe() -> PretrainRecipe:
    return override(load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe), SMALL)


@pytest.fixture(scope="module")
def whole(
    recipe: PretrainRecipe, few_digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    Pretrainer(recipe, data=few_digits, out=out, command="test").run()
    return out


def test_a_run_leaves_a_record_weights_and_a_line_a_step(whole: Path) -> None:
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 16))
    assert [row["step"] for row in rows if "knn_top1" in row] == [0, 10, 15]
    record = json.loads(next(whole.glob("pretrain-*.json")).read_text())
    assert record["metrics"]["loss"] == losses(whole)[-1]
    assert record["method"] == "MiCL"


def test_workers_change_nothing(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    with_workers = override(recipe, ["num_workers=2"])
    Pretrainer(with_workers, data=few_digits, out=tmp_path / "run", command="test").run()
    assert losses(tmp_path / "run") == losses(whole)


def test_killed_at_any_moment_the_losses_are_those_of_a_whole_run(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "micl_bench",
        "pretrain",
        REPOSITORY / "pretrain" / "embedded.py",
    ]
    command += ["--data", few_digits, "--out", out]
    command += [word for value in SMALL for word in ("--set", value)]
    # Killed in three places that the files tell of: early, between two saves, near the end.
    for at_step in (1, 5, 12):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while len(losses(out)) < at_step and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on from step" in finished.stderr
    assert losses(out) == losses(whole)
    ours, theirs = (torch.load(f / "backbone.pt", weights_only=True) for f in (out, whole))
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing to do" in again.stderr


def test_another_recipe_does_not_go_on_in_the_same_folder(
    whole: Path, recipe: PretrainRecipe, few_digits: Path
) -> None:
    with pytest.raises(InputError, match="another recipe"):
        Pretrainer(override(recipe, ["epochs=4"]), data=few_digits, out=whole, command="test")


def test_a_loss_that_explodes_stops_the_run(
    recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    wild = override(recipe, ["optim.base_lr=1e30", "epochs=9"])
    with pytest.raises(InputError, match=r"the loss became nan at step \d+"):
        Pretrainer(wild, data=few_digits, out=tmp_path / "run", command="test").run()


def test_every_image_is_evaluated_once_whatever_the_batch(few_digits: Path) -> None:
    folder = open_folder(few_digits / "val")
    pixels = Pixels(img_size=32, crop_pct=1.0)
    batches = [list(evaluation_batches(folder, pixels, batch_size=size)) for size in (7, 40, 64)]
    first = torch.cat([batch.images for batch in batches[0]])
    assert len(first) == len(folder) == 40
    for other in batches[1:]:
        assert torch.equal(torch.cat([batch.images for batch in other]), first)


def test_an_epoch_holds_each_image_once(few_digits: Path) -> None:
    folder = open_folder(few_digits / "train")
    pixels = Pixels(img_size=32, crop_pct=1.0)
    batches = training_batches(folder, pixels, batch_size=20, seed=1, steps=range(8), num_noise=4)
    images = [image.numpy().tobytes() for batch in batches for image in batch.images]
    assert len(images) == 160
    assert set(images[:80]) == set(images[80:])
    assert len(set(images[:80])) == 80
    assert images[:80] != images[80:]


def test_a_damaged_state_is_refused(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(whole / "recipe.json", out)
    (out / "training.pt").write_bytes(b"\x00damaged")
    with pytest.raises(InputError, match="no readable checkpoint"):
        Pretrainer(recipe, data=few_digits, out=out, command="test")


def test_bad_folders_are_refused_in_one_line(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    recipe_path = REPOSITORY / "pretrain" / "embedded.py"
    empty = tmp_path / "empty" / "train" / "digit_0"
    empty.mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    for split in ("train", "val"):
        (unreadable / split / "digit_0").mkdir(parents=True)
        (unreadable / split / "digit_0" / "x.jpg").write_bytes(b"no image")
    for data, words in (
        (tmp_path / "missing", "no image folder"),
        (tmp_path / "empty", "has no image"),
        (unreadable, "more than the 1 images"),
        (few_digits / "train", "no image folder"),
    ):
        done = micl_bench("pretrain", recipe_path, "--data", data, "--out", "run")
        assert done.returncode == 2
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(few_digits: Path, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "digit_0" / "bad.jpg"
    bad.parent.mkdir()
    bad.write_bytes(b"no image")
    folder = open_folder(tmp_path)
    with pytest.raises(InputError, match=r"bad\.jpg is no readable image") as caught:
        list(evaluation_batches(folder, Pixels(img_size=32), batch_size=1, num_workers=workers))
    assert "\n" not in str(caught.value)
