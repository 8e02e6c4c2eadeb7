"""Odd folders, many of them: every command works on them or says in one line what is wrong."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from odd_folders import odd_folder

from micl_bench.cli import app as cli
from micl_bench.data.folder import open_folder
from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.runtime.errors import InputError

KNN = ("--set", "pixels.img_size=32", "--set", "k=1", "--set", "ks=[1]")
RANDOM = "random:vit_demo_patch4_32"


def outcome(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command in this process; a defect is raised."""
    code = 0
    try:
        cli.run([str(word) for word in arguments], trace_defects=True)
    except SystemExit as left:
        code = int(left.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def check_outcome(code: int, out: str, err: str) -> bool:
    """Check that a command worked, or said why not on one printable line; return whether it worked."""
    for line in (out + err).splitlines():
        assert line.isprintable(), line
        assert len(line) < 1500, line
    if code == 0:
        return True
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    return False


def check_knn(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Evaluate; what is recorded is what was listed."""
    words = ["eval", "knn", "--checkpoint", RANDOM, "--data", root, "--out", out, *KNN]
    if not check_outcome(*outcome(list(words), capsys)):
        assert not out.exists()
        return False
    (path,) = out.glob("knn-*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    held_out = open_folder(root / "val", classes=open_folder(root / "train").classes)
    capsys.readouterr()
    assert record["data"]["images"] == len(held_out)
    assert record["data"]["digest"] == held_out.digest
    assert record["data"]["left_out"] == held_out.left_out
    predictions = read_predictions(out / record["artifacts"]["evidence"])
    assert predictions.files == held_out.names
    assert predictions.classes == held_out.classes
    np.testing.assert_array_equal(predictions.labels_M, held_out.labels)
    return True


def number_of_images(root: Path) -> int:
    """Counted in another way: with `os.walk`, as torchvision does, but for names with a dot."""
    number = 0
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        if Path(folder) != root:
            ends = ("jpg", "jpeg", "jfif", "png", "gif", "pgm", "webp", "tif", "bmp")
            number += sum(
                name[0] != "." and name.lower().rpartition(".")[2] in ends for name in files
            )
    return number


@pytest.mark.parametrize("seed", range(40))
def test_an_odd_folder_is_read_whole_or_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    root = odd_folder(tmp_path / "data", seed)
    for split in ("train", "val"):
        said = ""
        try:
            folder = open_folder(root / split)
        except InputError as error:
            said = str(error)
        if said:
            assert str(root / split) in said
            continue
        assert len(folder) == number_of_images(root / split)
        assert len(set(folder.names)) == len(folder)
        assert all(name.encode().decode().splitlines() == [name] for name in folder.names)
        assert len(folder.digest) == 64
        assert folder.left_out.isprintable()


@pytest.mark.parametrize("seed", range(4))
def test_commands_work_on_an_odd_folder_or_refuse_it(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    check_commands(tmp_path, seed, capsys)


@pytest.mark.long
def test_commands_work_on_a_hundred_odd_folders_or_refuse_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worked = 0
    for seed in range(100, 200):
        worked += check_commands(tmp_path / str(seed), seed, capsys)
        shutil.rmtree(tmp_path / str(seed))
    assert 20 < worked < 90


def check_commands(place: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> bool:
    """Several commands that read a folder; returns whether `eval knn` worked."""
    place.mkdir(exist_ok=True)
    root = odd_folder(place / "data", seed)
    worked = check_knn(root, place / "knn", capsys)
    pack = ["data", "pack", "--images", root, "--out", place / "store", "--layout", "image"]
    options = ["--size", 16, "--workers", 1, "--skip-bad"]
    if check_outcome(*outcome([*pack, *options], capsys)):
        words = ["eval", "knn", "--checkpoint", RANDOM, "--data", place / "store"]
        done = outcome([*words, "--out", place / "knn-store", *KNN], capsys)
        assert check_outcome(*done) or not worked
    features = ["features", "--checkpoint", RANDOM, "--images", root / "val"]
    done = outcome([*features, "--out", place / "f.npz"], capsys)
    if check_outcome(*done):
        with np.load(place / "f.npz", allow_pickle=False) as arrays:
            assert tuple(arrays["files"].tolist()) == open_folder(root / "val").names
            capsys.readouterr()
    code, shown, err = outcome(["doctor", "--data", root], capsys)
    assert code in (0, 1, 2), err
    assert all(line.isprintable() for line in (shown + err).splitlines())
    return worked
