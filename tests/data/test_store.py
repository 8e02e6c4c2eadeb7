"""The packed store as its readers see it: same order, same pixels, nothing trusted."""

import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from support import Run

from micl_bench.data.folder import open_folder, read_image
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import Store, is_store, open_store
from micl_bench.data.packed.verify import verify_store
from micl_bench.data.pixels import Pixels, evaluation_pixels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json

SIZE, PATCH = 64, 16
FILES = ("pixels.bin", "labels.bin", "sizes.bin", "names.bin", "checksums.bin", "store.json")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of two photographs, of several shapes, under names that need care."""
    root = tmp_path_factory.mktemp("photos") / "my set" / "train"
    names = ("a b.jpg", "日本.jpg", "two\nlines.jpg", "plain.png")
    for label, photo in enumerate(load_sample_images().images):
        folder = root / f"class {label}"
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            Image.fromarray(photo[: 120 + 40 * i, 50 * i :]).save(folder / name)
    return root


@pytest.fixture(scope="module")
def patches(photos: Path) -> Store:
    out = photos.parents[1] / "patches"
    pack_folder(photos, out, layout="patch", size=SIZE, patch_size=PATCH)
    return open_store(out)


@pytest.fixture(scope="module")
def pictures(photos: Path) -> Store:
    out = photos.parents[1] / "pictures"
    pack_folder(photos, out, layout="image", size=SIZE)
    return open_store(out)


@pytest.fixture
def copy(patches: Store, tmp_path: Path) -> Path:
    """A store to damage."""
    return Path(shutil.copytree(patches.root, tmp_path / "copy"))


def test_a_store_tells_the_same_as_its_folder(
    photos: Path, patches: Store, pictures: Store
) -> None:
    folder = open_folder(photos)
    original = [Image.open(path).size for path in folder.paths]
    for store in (patches, pictures):
        assert len(store) == len(folder) == 8
        assert store.classes == folder.classes
        assert store.labels_N.tolist() == list(folder.labels)
        names = [str(path.relative_to(photos)) for path in folder.paths]
        assert list(store.names) == [name.replace("\n", "\\u000a") for name in names]
        assert store.sizes_N2.tolist() == [list(size) for size in original]
        assert store.digest == folder.digest
        assert store.describe() == folder.describe()
    assert (patches.layout, patches.size, patches.patch_size) == ("patch", SIZE, PATCH)
    assert patches.crop_pct == 0.875
    assert (pictures.layout, pictures.size, pictures.patch_size) == ("image", SIZE, 0)


def test_the_embedded_set_keeps_its_name_and_what_it_stands_for(
    embedded: Path, tmp_path: Path
) -> None:
    source = embedded / "embedded" / "val"
    packed = pack_folder(source, tmp_path / "val", layout="image", size=32)
    assert packed.store.describe() == open_folder(source).describe()
    assert packed.store.describe().stands_for == "ImageNet"


def test_both_layouts_hold_what_decoding_gives(
    photos: Path, patches: Store, pictures: Store
) -> None:
    paths = open_folder(photos).paths
    index = torch.tensor([3, 0, 7, 3])
    wanted = [evaluation_pixels(read_image(paths[i]), Pixels(img_size=SIZE)) for i in index]
    assert torch.equal(patches.images(index), torch.stack(wanted))
    squashed = [
        np.asarray(Image.open(paths[i]).convert("RGB").resize((SIZE, SIZE), Image.BICUBIC))
        for i in index
    ]
    expected = torch.from_numpy(np.stack(squashed)).permute(0, 3, 1, 2)
    assert torch.equal(pictures.images(index.numpy()), expected)


def test_visible_patches_are_those_of_the_whole_images(patches: Store) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([5, 1, 5])
    keep_NM = torch.rand(3, 16, generator=generator).argsort(1)[:, :5]
    # torch's own cutting, in the order of a convolution's weight.
    whole_NCHW = patches.images(index).float()
    all_NLP = torch.nn.functional.unfold(whole_NCHW, PATCH, stride=PATCH).transpose(1, 2)
    expected = torch.gather(all_NLP, 1, keep_NM[..., None].expand(-1, -1, 3 * PATCH**2))
    found = patches.visible_patches(index, keep_NM)
    assert found.dtype == torch.uint8
    assert torch.equal(found.float(), expected)


@pytest.mark.parametrize("place", [-1, 16])
def test_a_patch_that_is_not_there_is_never_another_images(patches: Store, place: int) -> None:
    with pytest.raises(IndexError):
        patches.visible_patches(torch.tensor([1]), torch.tensor([[0, place]]))


def read_elsewhere(store: Store) -> bytes:
    return store.images(torch.arange(len(store))).numpy().tobytes()


@pytest.mark.long
def test_another_process_maps_the_files_itself_and_nobody_writes(patches: Store) -> None:
    assert len(pickle.dumps(patches)) < 1000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_elsewhere, (patches,)) == read_elsewhere(patches)
    with pytest.raises(ValueError, match="read-only"):
        patches.pixels[0] = 0


def test_verify_passes_a_whole_store(patches: Store, pictures: Store) -> None:
    verify_store(patches.root)
    verify_store(pictures.root)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.37, 1.0])
def test_verify_finds_any_single_flipped_bit(copy: Path, name: str, place: float) -> None:
    content = bytearray((copy / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|version") as caught:
        verify_store(copy)
    if name == "pixels.bin":
        assert "block 0 of pixels.bin (class 0/a b.jpg to class 1/日本.jpg)" in str(caught.value)
    elif name != "store.json":
        assert name in str(caught.value) or "labels or sizes" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["shorter", "longer", "missing", "folder"])
def test_a_missing_piece_or_a_wrong_size_is_one_line(copy: Path, name: str, harm: str) -> None:
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "missing":
        path.write_bytes(content[:-1] if harm == "shorter" else content + b"\0")
    with pytest.raises(InputError) as caught:
        _ = open_store(copy).names
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change store.json as somebody who knows the format would: its digest fits."""
    content = json.loads((root / "store.json").read_text())
    version, kind = content.pop("version"), content.pop("format")
    del content["sha256"]
    change(content)
    whole = {"version": version, "format": kind, **content, "sha256": digest_json(content)}
    (root / "store.json").write_text(json.dumps(whole))


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows without end": lambda c: c.update(rows=10**15),
    "no rows": lambda c: c.update(rows=0),
    "negative rows": lambda c: c.update(rows=-8),
    "rows as text": lambda c: c.update(rows="8"),
    "rows as true": lambda c: c.update(rows=True),
    "side without end": lambda c: c["form"].update(size=10**9),
    "no side": lambda c: c["form"].update(size=0),
    "no patch": lambda c: c["form"].update(patch_size=0),
    "patches that do not fit": lambda c: c["form"].update(patch_size=24),
    "a crop of nothing": lambda c: c["form"].update(crop_pct=float("nan")),
    "another layout": lambda c: c["form"].update(layout="video"),
    "classes as text": lambda c: c.update(classes="ab"),
    "too few classes": lambda c: c.update(classes=["class 0"]),
    "a class that is a number": lambda c: c.update(classes=["class 0", 1]),
    "left out twice": lambda c: c.update(bad=[[1, ""], [1, ""]]),
    "left out beyond": lambda c: c.update(bad=[[8, ""]]),
    "left out before": lambda c: c.update(bad=[[-1, ""]]),
    "no description": lambda c: c.update(data=None),
    "no files": lambda c: c.pop("files"),
    "a list": lambda c: c.update(form=[1, 2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_made_up_description_is_refused(copy: Path, name: str) -> None:
    rewrite(copy, HOSTILE[name])
    with pytest.raises(InputError, match="damaged packed store"):
        open_store(copy)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"format": 1}', "\xff"])
def test_a_description_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="damaged packed store"):
        open_store(copy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        # Half a character.
        ('"class 1"', '"\\ud800"', "damaged packed store"),
        ('"version": 1', '"version": 2', r"version 2; this program reads .*version 1"),
    ],
)
def test_a_changed_description_is_refused(copy: Path, old: str, new: str, words: str) -> None:
    text = (copy / "store.json").read_text()
    (copy / "store.json").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=words):
        open_store(copy)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(copy: Path, name: str) -> None:
    names = (copy / "names.bin").read_bytes().split(b"\0")
    (copy / "names.bin").write_bytes(b"\0".join([*names[:3], name.encode(), *names[4:]]))
    with pytest.raises(InputError, match=r"names\.bin"):
        _ = open_store(copy).names


def test_labels_beyond_the_classes_are_refused(copy: Path) -> None:
    np.full(8, 2, "<i8").tofile(copy / "labels.bin")
    with pytest.raises(InputError, match="labels or sizes"):
        open_store(copy)


def test_what_is_no_store_says_so(tmp_path: Path, photos: Path) -> None:
    assert not is_store(photos)
    for folder in (photos, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no packed store"):
            open_store(folder)


def test_the_command_names_the_damaged_block(micl_bench: Run, copy: Path) -> None:
    good = micl_bench("data", "verify", copy)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith(f"whole: {copy}  8 images")
    with (copy / "pixels.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 128]))
    bad = micl_bench("data", "verify", copy)
    assert bad.returncode == 2
    assert "block 0 of pixels.bin (class 0/a b.jpg to class 1/日本.jpg)" in bad.stderr
