"""Packing: the same bytes whatever happened on the way, and one clear line where it cannot go on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from support import Run

from micl_bench.data.folder import open_folder
from micl_bench.data.packed import job
from micl_bench.data.packed.pack import make_form, pack_folder, pack_tree
from micl_bench.data.packed.store import PIXELS_FILE, open_store
from micl_bench.data.packed.verify import verify_store
from micl_bench.runtime.errors import InputError

CHINA, FLOWER = load_sample_images().images
BLOCK = 256
PATCHES: dict[str, Any] = {"layout": "patch", "size": 32, "patch_size": 8}


def write_photos(root: Path, number: int, *, classes: int = 2, side: int = 40) -> Path:
    """Small crops of two photographs, each another one, in class folders."""
    for i in range(number):
        folder = root / f"class {i % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        top, left = divmod(7 * i, 500)
        crop = (CHINA, FLOWER)[i % 2][top : top + side, left : left + side]
        Image.fromarray(crop).save(folder / f"{i:05d}.jpg")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks and a bit. Read only."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", 2 * BLOCK + 20)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "few", 6)


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "form",
    [PATCHES, pytest.param({"layout": "image", "size": 32}, marks=pytest.mark.long)],
    ids=lambda form: form["layout"],
)
def test_the_number_of_processes_changes_no_byte(
    photos: Path, tmp_path: Path, form: dict[str, Any]
) -> None:
    alone = pack_folder(photos, tmp_path / "one" / "store", workers=1, **form)
    assert alone.new_images == len(open_folder(photos))
    pack_folder(photos, tmp_path / "two" / "store", workers=2, **form)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert sorted(content(alone.store.root)) == [
        "checksums.bin",
        "labels.bin",
        "names.bin",
        "pixels.bin",
        "sizes.bin",
        "store.json",
    ]


def test_an_interrupted_packing_goes_on_to_the_same_bytes(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what a kill in the middle of a write can leave: half a line, and half a block."""
    out, pack_blocks = tmp_path / "cut" / "store", job.pack_blocks

    def one_block(todo: Any, workers: Any) -> Iterator[Any]:
        yield next(iter(pack_blocks(todo, 1)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "pack_blocks", one_block)
        with pytest.raises(KeyboardInterrupt):
            pack_folder(photos, out, **PATCHES)
    with pytest.raises(InputError, match="not packed to the end"):
        open_store(out)
    journal = out / "journal.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 2
    journal.write_text("\n".join([*lines, lines[-1][: len(lines[-1]) // 2]]))
    with (out / "pixels.bin").open("r+b") as file:
        file.seek(BLOCK * 3 * 32**2)
        file.write(b"\xaa" * 1000)
    assert pack_folder(photos, out, **PATCHES).new_images == BLOCK + 20
    assert "going on, 1 of 3 blocks" in capsys.readouterr().err
    pack_folder(photos, tmp_path / "whole" / "store", **PATCHES)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_finished_blocks_are_not_packed_again(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pack_folder(photos, tmp_path / "store", **PATCHES)
    again = pack_folder(photos, tmp_path / "store", **PATCHES)
    assert (first.new_images, again.new_images) == (len(first.store), 0)
    assert "is packed already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"size": 64}, {"patch_size": 16}, {"crop_pct": 1.0}, {"layout": "image", "patch_size": None}],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_layout_in_out_is_refused(
    few: Path, tmp_path: Path, change: dict[str, Any], finished: bool
) -> None:
    out = tmp_path / "store"
    if not finished:
        (few / "class 0" / "empty.jpg").touch()
        with pytest.raises(InputError, match="1 of 7"):
            pack_folder(few, out, **PATCHES)
    else:
        pack_folder(few, out, **PATCHES)
    before = content(out)
    with pytest.raises(InputError, match=f"another {next(iter(change))}"):
        pack_folder(few, out, **{**PATCHES, **change})
    assert content(out) == before


def test_another_source_in_out_is_refused(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    pack_folder(few, out, **PATCHES)
    image = few / "class 0" / "00000.jpg"
    Image.fromarray(CHINA).save(image)
    with pytest.raises(InputError, match="another size of an image"):
        pack_folder(few, out, **PATCHES)
    image.unlink()
    with pytest.raises(InputError, match="another list of images"):
        pack_folder(few, out, **PATCHES)


def test_other_files_are_never_touched(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        pack_folder(few, out, **PATCHES)
    with pytest.raises(InputError, match="is a file"):
        pack_folder(few, out / "thesis.txt", **PATCHES)
    with pytest.raises(InputError, match="lies in"):
        pack_folder(few, few / "packed", **PATCHES)
    assert content(out) == {"thesis.txt": b"mine"}


def test_two_at_once_are_refused(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    out.mkdir()
    code = (
        "import filelock, sys\n"
        "with filelock.FileLock(sys.argv[1] + '/.lock'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is packing"):
            pack_folder(few, out, **PATCHES)
        other.communicate()
    assert len(pack_folder(few, out, **PATCHES).store) == 6


def test_a_full_disk_is_refused_before_the_start(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = len(open_folder(photos))
    needed = number * 3 * 32**2

    def usage(free: int) -> None:
        result = (10**9, 10**9 - free, free)
        value = type(shutil.disk_usage(tmp_path))(*result)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: value)

    usage(needed)
    with pytest.raises(InputError, match=r"needs 0\.002 GB, .* has 0\.002 GB free"):
        pack_folder(photos, tmp_path / "store", **PATCHES)
    assert not (tmp_path / "store").exists()
    usage(needed + 200 * number)
    pack_folder(photos, tmp_path / "store", **PATCHES)


def bad_folder(root: Path) -> Path:
    """Six good photographs, four more kinds that are read, five that are not."""
    folder = write_photos(root, 6) / "class 0"
    photo = Image.fromarray(CHINA[:100, :120])
    photo.convert("CMYK").save(folder / "print.jpg")
    photo.convert("L").save(folder / "grey.png")
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(folder / "deep.png")
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.png", "GIF", save_all=True, append_images=frames[1:])
    photo.save(folder / "cut\nshort.jpg")
    cut = (folder / "cut\nshort.jpg").read_bytes()
    (folder / "cut\nshort.jpg").write_bytes(cut[:900])
    (folder / "empty ü.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "broken link.jpg").symlink_to("nowhere")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return root


def test_all_bad_images_are_listed_then_mended_or_left_out(micl_bench: Run, tmp_path: Path) -> None:
    images, out = bad_folder(tmp_path / "images"), tmp_path / "store"
    arguments = ["data", "pack", "--images", images, "--out", out, "--layout", "patch"]
    arguments += ["--size", 32, "--patch-size", 8]
    refused = micl_bench(*arguments)
    assert refused.returncode == 2
    error = refused.stderr.splitlines()[-1]
    assert f"5 of 15 images could not be read, listed in {out / 'bad.txt'}" in error
    assert "--skip-bad" in error
    listed = (out / "bad.txt").read_text().splitlines()
    assert [line.split(" is no readable image ")[0] for line in listed] == [
        f"class 0/{name}"
        for name in ("broken link", "cut\\u000ashort", "empty ü", "huge", "text")
        for name in [name + (".png" if name == "huge" else ".jpg")]
    ]
    assert str(tmp_path) not in "".join(listed)

    # Mended in the meantime: only this block is packed again.
    Image.fromarray(FLOWER).save(images / "class 0" / "text.jpg")
    left_out = micl_bench(*arguments, "--skip-bad")
    assert left_out.returncode == 0, left_out.stderr
    assert "11 images" in left_out.stdout
    check_left_out(images, out)
    assert micl_bench("data", "verify", out).returncode == 0


def check_left_out(images: Path, out: Path) -> None:
    store = open_store(out)
    assert len(store) == store.describe().images == len(store.labels_N) == 11
    assert "class 0/text.jpg" in store.names
    assert "class 0/huge.png" not in store.names
    assert not (out / "bad.txt").exists()
    reasons = [reason for _, reason in store.header.bad]
    assert len(reasons) == 4
    assert store.describe().left_out == "4 images could not be read when packed"
    # Each image is still found under its own name.
    sides = {name: tuple(side) for name, side in zip(store.names, store.sizes_N2, strict=True)}
    assert sides["class 0/print.jpg"] == (120, 100)
    pixels = dict(zip(store.names, store.images(torch.arange(11)), strict=True))
    assert pixels["class 0/deep.png"].float().mean() == 255
    assert pixels["class 0/moving.png"].float().mean((1, 2)).tolist() == [255, 0, 0]
    shutil.rmtree(images)


def test_leaving_out_decodes_nothing_again(few: Path, tmp_path: Path) -> None:
    (few / "class 1" / "empty.jpg").touch()
    out = tmp_path / "store"
    with pytest.raises(InputError, match="1 of 7"):
        pack_folder(few, out, **PATCHES)
    packed = pack_folder(few, out, skip_bad=True, **PATCHES)
    assert packed.new_images == 0
    assert len(packed.store) == 6
    assert packed.store.digest == open_folder(few).digest
    at_once = pack_folder(few, tmp_path / "at once", skip_bad=True, **PATCHES)
    assert content(out) == content(at_once.store.root)


def test_a_folder_of_nothing_but_bad_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"no image of .* could be read, of 1"):
        pack_folder(tmp_path / "bad", tmp_path / "store", skip_bad=True, **PATCHES)


def test_names_that_are_no_text_are_the_same_in_store_and_folder(few: Path, tmp_path: Path) -> None:
    for name in (b"\xff.jpg", b"two\nlines.jpg", b"back\\slash.jpg", b"bell\x07 \xe9.jpg"):
        shutil.copy(few / "class 0" / "00000.jpg", os.fsencode(few / "class 0") + b"/" + name)
    store = pack_folder(few, tmp_path / "store", **PATCHES).store
    folder = open_folder(few)
    assert open_store(store.root).names == folder.names
    assert store.digest == folder.digest
    assert "class 0/bell\\u0007 \\xe9.jpg" in folder.names
    assert "class 0/back\\slash.jpg" in folder.names
    verify_store(store.root)
    again = pack_folder(few, tmp_path / "store", **PATCHES)
    assert again.new_images == 0


def test_each_split_becomes_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    write_photos(data / "train", 6, classes=3)
    write_photos(data / "val", 3, classes=3)
    shutil.rmtree(data / "val" / "class 0")
    (data / "test").mkdir()
    packed = pack_tree(data, tmp_path / "out", make_form("image", 32))
    assert [one.store.root for one in packed] == [tmp_path / "out" / s for s in ("train", "val")]
    assert f"{data / 'test'} has no class folders" in capsys.readouterr().err
    train, val = (one.store for one in packed)
    # Labels mean the same in both, though the second lacks the first class.
    assert train.classes == val.classes
    assert val.labels_N.tolist() == [1, 2]
    assert val.describe() == open_folder(data / "val").describe()
    assert (val.describe().name, val.describe().split) == ("data", "val")


def test_bad_images_of_all_splits_are_found_at_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_photos(tmp_path / "data" / split, 4)
        (tmp_path / "data" / split / "class 0" / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"1 of 5 .*train/bad\.txt; 1 of 5 .*val/bad\.txt; fix"):
        pack_tree(tmp_path / "data", tmp_path / "out", make_form("image", 32))


def test_the_embedded_set_packs_in_one_command(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    done = micl_bench(
        *("data", "pack", "--images", few_digits, "--out", "packed", "--layout", "patch"),
        *("--size", 32, "--patch-size", 4, "--crop-pct", 1),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("packed: packed  120 images, 0.000 GB")
    assert len(done.stdout.splitlines()) == 1
    for split in ("train", "val"):
        verify_store(tmp_path / "packed" / split)
    refused = micl_bench("data", "pack", "--images", few_digits, "--out", "x", "--layout", "patch")
    assert refused.returncode == 2
    assert "the patch size is not given" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "video"}, "needed: patch or image"),
        ({"layout": "patch"}, "the patch size is not given"),
        ({"layout": "patch", "patch_size": 15}, "divides the size, 32"),
        ({"layout": "image", "patch_size": 16}, "give no patch size"),
        ({"layout": "image", "crop_pct": 0.9}, "give no patch size or crop"),
        ({"layout": "image", "size": 0}, "size is 0; needed"),
        ({"layout": "patch", "patch_size": 16, "crop_pct": 1.5}, "crop_pct is 1.5"),
        ({"layout": "image", "workers": 0}, "workers is 0; needed: 1 or more"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_values_that_do_not_go_together_are_refused(
    few: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        pack_folder(few, tmp_path / "store", **{"size": 32, **options})
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("harm", ["removed", "cut short", "made longer"])
def test_blocks_whose_pixels_are_no_longer_there_are_packed_again(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    out = tmp_path / "store"

    with monkeypatch.context() as patch:
        # All is packed, and the header, which comes last, is not written.
        patch.setattr(job, "digest_json", None)
        with pytest.raises(TypeError):
            pack_folder(few, out, **PATCHES)
    pixels = out / PIXELS_FILE
    if harm == "removed":
        pixels.unlink()
    else:
        os.truncate(pixels, pixels.stat().st_size + (1 if harm == "made longer" else -1))
    packed = pack_folder(few, out, **PATCHES)
    # The journal lists blocks that are zeros by now.
    assert packed.new_images == len(packed.store)
    verify_store(out)
