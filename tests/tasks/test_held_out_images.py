"""Held-out images are trusted by no task, and none of them is bound to a training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import REPOSITORY, Run, good, overrides, record_in, refused, values_in

from micl_bench.cli import app as cli
from micl_bench.data.folder import open_folder
from micl_bench.engine.frozen import features
from micl_bench.runs.loop import Loop
from micl_bench.runtime.log import read_metrics

RANDOM = "random:vit_demo_patch4_32"
TASKS = {
    "finetune": ("pixels.img_size=16", "training.epochs=2", "training.batch_size=8"),
    "linear": ("pixels.img_size=32", "probe.epochs=2", "probe.batch_size=8"),
    "logistic": ("pixels.img_size=32", "c=[1]", "batch_size=8"),
    "knn": ("pixels.img_size=32", "k=5"),
    "representation": ("pixels.img_size=32",),
}


def write_split(root: Path, number: int, *, seed: int) -> None:
    random = np.random.default_rng(seed)
    for index in range(number):
        path = root / f"class {index % 2}" / f"{index:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixteen training and eight held-out images; one of the latter is cut off."""
    write_split(tmp_path / "data" / "train", 16, seed=0)
    write_split(tmp_path / "data" / "val", 8, seed=1)
    bad = bad_image(tmp_path / "data")
    bad.write_bytes(bad.read_bytes()[:700])
    return tmp_path / "data"


def bad_image(data: Path) -> Path:
    return data / "val" / "class 1" / "07.jpg"


def words(task: str, data: Path, out: Path, *more: str) -> list[object]:
    settings = overrides(*TASKS[task], *more)
    return ["eval", task, "--checkpoint", RANDOM, "--data", data, "--out", out, *settings]


@pytest.mark.parametrize(
    ("task", "split"),
    [(task, "val") for task in TASKS]
    + [(task, "train") for task in TASKS if task != "representation"],
)
def test_a_damaged_image_is_found_before_anything_is_computed(
    micl_bench: Run, data: Path, tmp_path: Path, task: str, split: str
) -> None:
    damaged = bad_image(data)
    if split == "train":
        write_split(data / "val", 8, seed=1)
        damaged = data / "train" / "class 0" / "14.jpg"
        damaged.write_bytes(b"")
    done = refused(micl_bench(*words(task, data, tmp_path / "out")))
    *earlier, line = done.stderr.splitlines()
    assert not any("%" in word or "step" in word for word in earlier), "something was computed"
    assert line.startswith(f"error: {damaged} is no readable image (")
    assert line.endswith("replace or remove it")
    assert not (tmp_path / "out").exists()


def test_pre_training_finds_it_too_where_it_checks_on_held_out_images(
    micl_bench: Run, data: Path, tmp_path: Path
) -> None:
    command = ["pretrain", REPOSITORY / "pretrain" / "embedded.py", "--data", data]
    command += overrides("epochs=1", "batch_size=8")
    done = refused(micl_bench(*command, "--out", tmp_path / "out"))
    assert done.stderr.splitlines()[-1].startswith(f"error: {bad_image(data)} is no readable image")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_repaired_held_out_set_goes_on_from_the_saved_training(
    micl_bench: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_split(data / "val", 8, seed=1)
    command = words("finetune", data, out, "save_every_steps=1", "check_every_epochs=1")
    # All states are there and no record is, as where a kill or a damaged image ended it.
    done = good(micl_bench(*command))
    before = record_in(out, "finetune")
    for path in out.glob("finetune-*.json"):
        path.unlink()
    bad_image(data).write_bytes(b"no image")
    second = refused(micl_bench(*command))
    assert f"{bad_image(data)} is no readable image" in second.stderr
    write_split(data / "val", 10, seed=2)
    done = good(micl_bench(*command))
    assert "going on from step 4 of 4" in done.stderr
    after = record_in(out, "finetune")
    assert after["data"]["digest"] == open_folder(data / "val").digest != before["data"]["digest"]
    assert after["data"]["images"] == 10
    assert after["train"] == before["train"]
    looks = [row for row in read_metrics(out / "metrics.jsonl") if "held_out_top1" in row]
    assert looks[-1]["held_out_digest"] == after["data"]["digest"]
    assert looks[-1]["held_out_top1"] == values_in(after)["top1"]


def test_other_training_images_are_refused_by_name(
    micl_bench: Run, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_split(data / "val", 8, seed=1)
    assert micl_bench(*words("finetune", data, out)).returncode == 0
    for path in out.glob("finetune-*.json"):
        path.unlink()
    write_split(data / "train", 16, seed=3)
    second = refused(micl_bench(*words("finetune", data, out, "training.optim.weight_decay=0.1")))
    expected = "another recipe or other data (what differs: training, train digest)"
    assert expected in second.stderr


def test_an_image_replaced_between_check_and_evaluation_gives_no_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(data / "val", 8, seed=1)
    train = Loop.train

    def train_and_replace(loop: Loop) -> None:
        train(loop)
        shutil.copy(data / "train" / "class 0" / "00.jpg", bad_image(data))

    out = tmp_path / "out"
    command = [str(word) for word in words("finetune", data, out)]
    with monkeypatch.context() as changed:
        changed.setattr(Loop, "train", train_and_replace)
        with pytest.raises(SystemExit) as caught:
            cli.run(command)
    assert caught.value.code == 2
    assert f"{bad_image(data)} changed while it was read" in capsys.readouterr().err
    assert not list(out.glob("finetune-*.json"))
    cli.run(command)
    assert record_in(out, "finetune")["data"]["digest"] == open_folder(data / "val").digest


def test_features_of_images_that_change_meanwhile_are_not_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path / "cache"))
    write_split(data / "val", 8, seed=1)
    slices = features.outputs_by_slice

    def slices_and_replace(*arguments: Any, **options: Any) -> Any:
        yield from slices(*arguments, **options)
        shutil.copy(data / "train" / "class 0" / "00.jpg", bad_image(data))

    monkeypatch.setattr(features, "outputs_by_slice", slices_and_replace)
    with pytest.raises(SystemExit) as caught:
        cli.run([str(word) for word in words("knn", data, tmp_path / "out")])
    assert caught.value.code == 2
    assert "changed while their features were computed" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("about.json"))
