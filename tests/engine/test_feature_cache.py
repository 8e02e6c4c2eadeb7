"""Stored features are computed once, whole or not there, and equal to timm's own."""

import fcntl
import os
import shutil
import signal
import socket
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from support import REPOSITORY, Command, Run

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints import load_checkpoint
from micl_bench.data import folder as image_folder
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen import features as frozen
from micl_bench.engine.frozen.cache import cached_features
from micl_bench.engine.frozen.features import read_out, readout_names
from micl_bench.engine.frozen.stored import Features, reserve
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")
RANDOM = "random:vit_demo_patch4_32"
SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "width": 64, "num_heads": 2}


def features(images: Path, cache: Path, **changed: Any) -> Features:
    options: dict[str, Any] = {
        "device": CPU,
        "precision": "fp32",
        "batch_size": 64,
        "num_workers": 0,
        "folder": cache,
        "label": "features of val",
    }
    pixels = changed.pop("pixels", Pixels(img_size=32, crop_pct=1.0))
    checkpoint = load_checkpoint(RANDOM, seed=changed.pop("seed", 0))
    return cached_features(checkpoint, open_folder(images), pixels, **(options | changed))


@pytest.fixture
def images(few_digits: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    shutil.copytree(few_digits / "val", tmp_path / "val")
    return tmp_path / "val"


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"num_registers": 3, "layer_scale": True, "patch_positions_only": True},
        {"class_token": False},
        {"relative_positions": "block", "absolute_positions": False, "layer_scale": True},
        {"relative_positions": "shared"},
        {"eva": True},
        {"eva": True, "class_token": False},
    ],
    ids=str,
)
def test_readouts_equal_what_the_blocks_gave(depth: int, parts: dict[str, Any]) -> None:
    torch.manual_seed(0)
    vit = _built(depth, dict(parts)).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    outputs: list[torch.Tensor] = []
    for block in vit.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    images_NCHW = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        final = vit.forward_features(images_NCHW)
        by_block = [vit.norm(output) for output in outputs]
        found_NRD = read_out(vit, images_NCHW)
    names = readout_names(vit)
    layers = range(1, min(4, depth) + 1)
    if parts.get("class_token", True):
        assert names == (*(f"cls_{layer}" for layer in layers), "avg_1")
        torch.testing.assert_close(found_NRD[:, 0], final[:, 0], rtol=0, atol=0)
    else:
        assert names == tuple(f"avg_{layer}" for layer in layers)
    prefix = int(parts.get("class_token", True)) + parts.get("num_registers", 0)
    for place, name in enumerate(names):
        kind, layer = name.split("_")
        tokens_NTD = by_block[-int(layer)]
        assert tokens_NTD.shape[1] == prefix + 16  # Nothing is masked.
        expected = tokens_NTD[:, 0] if kind == "cls" else tokens_NTD[:, prefix:].mean(dim=1)
        torch.testing.assert_close(found_NRD[:, place], expected, rtol=0, atol=1e-6)


def _built(depth: int, parts: dict[str, Any]) -> Vit:
    if parts.pop("eva", False):
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "num_heads": 2, "depth": depth}
        return timm.models.eva.Eva(
            **sizes,
            num_classes=0,
            global_pool="avg",
            use_rot_pos_emb=True,
            use_fc_norm=False,
            **parts,
        )
    return Arch(name="small", depth=depth, **SIZES, **parts).build_any()


def test_the_second_call_reads_no_image(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features(images, tmp_path / "cache")
    expected = {name: first.tensor(name).clone() for name in first.readouts}

    def refuse(*_: object, **__: object) -> None:
        raise InputError("an image was read")

    monkeypatch.setattr(image_folder, "read_image", refuse)
    with pytest.raises(InputError, match="an image was read"):
        features(images, tmp_path / "other")
    second = features(images, tmp_path / "cache", batch_size=7)
    assert second.folder.name == first.folder.name
    assert all(torch.equal(second.tensor(name), expected[name]) for name in expected)
    # How long it took belongs to who computed it.
    assert first.origin["seconds"] > 0
    assert second.origin == first.origin | {"read": True}
    assert (first.origin["key"], first.origin["read"]) == (first.folder.name, False)
    assert first.origin["computed_with"]["torch"] == metadata.version("torch")


def test_an_image_written_anew_is_computed_anew(images: Path, tmp_path: Path) -> None:
    first = features(images, tmp_path / "cache")
    changed, other = sorted(images.glob("*/*"))[:2]
    # Another picture of the same size: a file name and a length tell nothing.
    changed.write_bytes(other.read_bytes().ljust(changed.stat().st_size, b"\0"))
    second = features(images, tmp_path / "cache")
    assert second.folder.name != first.folder.name
    assert not torch.equal(second.tensor("avg_1")[0], first.tensor("avg_1")[0])


def test_an_image_copied_with_the_old_ones_time_is_computed_anew(
    images: Path, tmp_path: Path
) -> None:
    first = features(images, tmp_path / "cache")
    other, *_, changed = sorted(images.glob("*/*"), key=lambda path: path.stat().st_size)
    status = changed.stat()
    # As `cp -p` and `rsync -t` leave it.
    changed.write_bytes(other.read_bytes().ljust(status.st_size, b"\0"))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = changed.stat()
    assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert features(images, tmp_path / "cache").folder.name != first.folder.name


def test_every_setting_that_moves_a_feature_has_its_own_key(images: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    changes: list[dict[str, Any]] = [
        {},
        {"pixels": Pixels(img_size=24, crop_pct=1.0)},
        {"pixels": Pixels(img_size=32, crop_pct=0.875)},
        {"precision": "bf16"},
        {"seed": 1},
    ]
    keys = [features(images, cache, **change).folder.name for change in changes]
    # What training crops, and how it is carried out, moves nothing.
    training = Pixels(img_size=32, crop_pct=1.0, crop_scale=(0.2, 1.0), flip=True)
    assert features(images, cache, pixels=training, batch_size=5, label="").folder.name == keys[0]
    (images / "digit_0").rename(images / "digit_x")
    keys.append(features(images, cache).folder.name)
    next(images.glob("*/*")).unlink()
    keys.append(features(images, cache).folder.name)
    assert len(set(keys)) == len(keys)
    assert {path.name for path in cache.iterdir() if not path.name.startswith(".")} == set(keys)


def test_what_is_on_disk_is_for_everybody(images: Path, tmp_path: Path) -> None:
    found, folder = features(images, tmp_path / "cache"), open_folder(images)
    assert len(found) == len(folder) == 40
    place = tmp_path / "cache" / found.folder.name
    assert np.load(place / "cls_4.npy").shape == (40, 128)
    assert np.load(place / "labels.npy").tolist() == list(folder.labels)
    assert (place / "files.txt").read_text().splitlines() == list(folder.names)
    found.tensor("cls_1")[0] = 7
    assert not (np.load(place / "cls_1.npy")[0] == 7).any()
    with pytest.raises(InputError, match="no avg_2; it has cls_1, cls_2, cls_3, cls_4, avg_1"):
        found.tensor("avg_2")


@pytest.mark.parametrize("name", ["cls_1.npy", "labels.npy", "about.json"])
def test_a_damaged_file_is_named(images: Path, tmp_path: Path, name: str) -> None:
    place = features(images, tmp_path).folder
    content = (place / name).read_bytes()
    (place / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{place.name} holds damaged features; remove the folder"):
        features(images, tmp_path).tensor("cls_1")


@pytest.mark.parametrize("name", ["cls_1.npy", "labels.npy"])
def test_numbers_that_fit_but_are_others_are_refused(
    images: Path, tmp_path: Path, name: str
) -> None:
    place = features(images, tmp_path).folder
    whole = np.load(place / name)
    noise = np.random.default_rng(0).permutation(whole.ravel()).reshape(whole.shape)
    np.save(place / name, noise)
    with pytest.raises(InputError, match=f"{place.name} holds damaged features; remove the folder"):
        features(images, tmp_path).tensor("cls_1")
    if name == "cls_1.npy":
        assert len(features(images, tmp_path).tensor("cls_2")) == 40


def test_another_run_at_the_same_features_is_waited_for(images: Path, tmp_path: Path) -> None:
    key = features(images, tmp_path / "first").folder.name
    cache, found = tmp_path / "second", []
    cache.mkdir()
    with (cache / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = threading.Thread(target=lambda: found.append(features(images, cache)))
        run.start()
        time.sleep(1)
        assert run.is_alive()
        assert not (cache / key).exists()
        # The other one ends, and nothing is computed again.
        shutil.copytree(tmp_path / "first" / key, cache / key)
        shutil.rmtree(images)
    run.join(timeout=60)
    assert found[0].folder.name == key


def test_without_locks_between_hosts_the_first_that_is_done_counts(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features(images, tmp_path / "first").folder
    cache, whole = tmp_path / "second", frozen.outputs_by_slice
    # A host whose name begins with this one's is another host.
    hosts = ("far", f"{socket.gethostname()}-far".replace(".", "_"), "gone")
    theirs, alike, left = (cache / f".{first.name}.{host}-1.tmp" for host in hosts)
    for folder in (theirs, alike, left):
        folder.mkdir(parents=True)
        (folder / "cls_1.npy").write_bytes(b"half")
    os.utime(left / "cls_1.npy", (0, 0))

    def overtaken(*arguments: Any, **options: Any) -> Any:
        yield from whole(*arguments, **options)
        shutil.copytree(first, cache / first.name)

    monkeypatch.setattr(frozen, "outputs_by_slice", overtaken)
    found = features(images, cache)
    # Neither what the other host has done nor what it is doing was touched.
    assert found.tensor("cls_1").shape == (40, 128)
    assert (found.folder / "about.json").read_bytes() == (first / "about.json").read_bytes()
    assert {path.name for path in cache.iterdir()} == {first.name, theirs.name, alike.name}


def test_what_is_left_of_an_entry_is_computed_anew(images: Path, tmp_path: Path) -> None:
    folder = features(images, tmp_path).folder
    (folder / "about.json").unlink()
    (folder / "cls_1.npy").write_bytes(b"half")
    found = features(images, tmp_path)
    assert found.folder == folder
    assert found.tensor("cls_1").shape == (40, 128)


def test_a_killed_run_leaves_nothing_that_counts(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path))
    words = ("--data", embedded / "embedded", "--out", tmp_path / "out", "--recipe")
    recipe = REPOSITORY / "downstream" / "embedded_knn.py"
    command = Command("eval", "knn", "--checkpoint", RANDOM, *words, recipe)
    while not (begun := list(tmp_path.glob("features/.*.tmp/cls_1.npy"))):
        assert command.is_running()
        time.sleep(0.002)
    command.send(signal.SIGKILL)
    command.wait()
    assert begun[0].exists()
    key = begun[0].parent.name.split(".")[1]
    assert not (tmp_path / "features" / key).exists()
    found = features(embedded / "embedded" / "val", tmp_path / "features")
    assert found.folder.name == key
    assert not list(tmp_path.glob("features/.*.tmp"))


def test_too_little_disk_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features of train need [\d,]+\.\d\d GiB in .* are free"):
        reserve(tmp_path, ("cls_1", "avg_1"), (10**12, 1024), "features of train")
    assert not list(tmp_path.iterdir())
    reserve(tmp_path, ("cls_1",), (1000, 64), "features of val")
    taken = (tmp_path / "cls_1.npy").stat()
    assert taken.st_blocks * 512 >= taken.st_size > 256_000


@pytest.mark.parametrize("kept", [[], [0], [1], [0, 0, 1], [1, 0]], ids=str)
def test_an_entry_whose_rows_were_not_all_written_is_none(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: list[int]
) -> None:
    whole = frozen.outputs_by_slice

    def holed(*arguments: Any, **options: Any) -> Any:
        slices = list(whole(*arguments, **options))
        return (slices[number] for number in kept)

    monkeypatch.setattr(frozen, "outputs_by_slice", holed)
    with pytest.raises(RuntimeError, match="not each of 40 rows was written once"):
        features(images, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))
    monkeypatch.undo()
    found = features(images, tmp_path / "cache").tensor("cls_1")
    assert found.abs().sum(dim=1).min() > 0


def test_an_entry_of_the_code_before_is_not_trusted(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = features(images, tmp_path).folder.name
    # Of that number, entries may hold zeros for rows that were never written.
    monkeypatch.setattr(frozen, "VERSION", 2)
    assert features(images, tmp_path).folder.name != found


@pytest.mark.parametrize("task", ["logistic", "linear", "knn", "representation"])
def test_a_batch_size_below_one_leaves_no_trace(
    few_digits: Path, tmp_path: Path, micl_bench: Run, task: str
) -> None:
    out, cache = tmp_path / "out", Path(os.environ["MICL_BENCH_CACHE"], "features")
    before = set(cache.glob("*"))
    words = ("--data", few_digits, "--out", out, "--set", "batch_size=0")
    done = micl_bench("eval", task, "--checkpoint", RANDOM, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: batch_size is 0; needed: 1 or more\n"
    assert not out.exists()
    assert set(cache.glob("*")) == before
