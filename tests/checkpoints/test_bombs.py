"""Files of some bytes that ask for any memory or time are refused before either is spent."""

import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import random_state, small_vit
from safetensors.torch import save_file

from micl_bench.checkpoints import load_checkpoint
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely

HUGE = 5 * 10**9
MOST_BYTES = 400 << 20


def number(value: int) -> bytes:
    """A long integer as pickle's LONG1."""
    return b"\x8a\x08" + struct.pack("<q", value)


def called(function: str, arguments: bytes) -> bytes:
    """`GLOBAL`, a tuple, `REDUCE`."""
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(" + arguments + b"tR"


def archive(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("x/data.pkl", b"\x80\x02" + program + b".")
        target.writestr("x/version", "3\n")
        target.writestr("x/data/0", b"\0" * 64)
    return path


STORAGE = (
    b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"
)
"""A reference to the sixteen numbers of `x/data/0`; its mark is closed by what comes behind."""


def tensor(size: int) -> bytes:
    """`_rebuild_tensor_v2` of a storage that would grow to the size."""
    shape = b"(" + number(size) + b"t(K\x01t\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE + b"K\x00" + shape + b"tR"


def doubled(start: bytes, one: bytes, last: bytes = b"") -> bytes:
    """A tuple of values, each made of the one before it, which is memo 0, twice; then `last`."""
    return b"(" + start + b"q\x00" + 60 * (one + b"q\x00") + last + b"t"


BOMBS = {
    "bytearray": called("builtins.bytearray", number(HUGE)),
    "bytearray of Python 2": called("__builtin__.bytearray", number(HUGE)),
    "storage": called("torch.FloatStorage", number(HUGE)),
    "tensor": called("torch.FloatTensor", number(HUGE)),
    "tensor by size": called("torch.Tensor", number(HUGE)),
    "quantised": called("torch._utils._rebuild_qtensor", b"K\x01"),
    "grown storage": tensor(HUGE),
    "storage behind a type": called(
        "torch._tensor._rebuild_from_type_v2",
        b"ctorch\nFloatStorage\nctorch\nTensor\n(" + number(HUGE) + b"t}",
    ),
    "paths": doubled(b"X\x08\x00\x00\x00aaaaaaaa", b"cpathlib\nPosixPath\n(h\x00h\x00tR"),
    "keys": doubled(b"K\x01", b"h\x00h\x00\x86", b"}h\x00K\x01s"),
    "set": doubled(b"K\x01", b"h\x00h\x00\x86", b"cbuiltins\nset\n(](h\x00etR"),
    "encodings": doubled(
        b"X\x04\x00\x00\x00aaaa", b"c_codecs\nencode\n(h\x00X\x03\x00\x00\x00hextR"
    ),
    "lists": doubled(b"]", b"](h\x00h\x00e"),
    "itself": b"]q\x00h\x00a",
}


def refused(path: Path) -> str:
    """The one line on a file, which took neither time nor memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert time.process_time() - began < 20
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES
    words = str(caught.value)
    assert len(words.splitlines()) == 1
    assert str(path) in words
    return words


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_that_asks_for_any_memory_is_refused(name: str, tmp_path: Path) -> None:
    program = b"}X\x05\x00\x00\x00model" + BOMBS[name] + b"s"
    path = archive(tmp_path / "bomb.pt", program)
    assert path.stat().st_size < 5000
    refused(path)


def test_the_same_programs_are_followed_where_they_are_harmless(tmp_path: Path) -> None:
    program = b"}X\x05\x00\x00\x00model}X\x01\x00\x00\x00a" + tensor(4) + b"ss"
    assert read_safely(archive(tmp_path / "a.pt", program))["model"]["a"].tolist() == [0.0] * 4


def test_a_file_in_the_old_manner_that_declares_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    place = content.index(b"K\x03")
    path.write_bytes(content[:place] + number(HUGE) + content[place + 2 :])
    assert "asks for 20,000,000,000 bytes of numbers" in refused(path)


def test_numbers_that_many_tensors_share_are_counted(tmp_path: Path) -> None:
    whole = torch.zeros(1 << 20, dtype=torch.float16)
    path = tmp_path / "shared.pth"
    torch.save({f"a{place}": whole.view(-1, 64) for place in range(200)}, path)
    assert "tensors of 419,430,400 bytes over 2,097,152" in refused(path)


def test_a_shape_without_numbers_that_claims_a_huge_network_is_refused(tmp_path: Path) -> None:
    state = random_state(small_vit()) | {"pos_embed": torch.zeros(1, 10**10 + 1, 0)}
    save_file(state, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors")


def test_a_header_of_safetensors_that_declares_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{" + b"\0" * 64)
    refused(path)


@pytest.mark.parametrize("name", ["blocks.{}.norm9.weight", "x{}", "blocks.0.surprise{}"])
def test_thousands_of_unknown_tensors_take_no_quadratic_time(name: str, tmp_path: Path) -> None:
    state: dict[str, Any] = random_state(small_vit())
    # In the old manner: thousands of entries of an archive take their time to be written.
    seconds = []
    for count in (500, 4000):
        path = tmp_path / f"{count}.pth"
        surplus = {name.format(place): torch.zeros(1) for place in range(count)}
        torch.save({**state, **surplus}, path, _use_new_zipfile_serialization=False)
        began = time.process_time()
        refused(path)
        seconds.append(time.process_time() - began)
    assert seconds[1] < 24 * seconds[0] + 1


def _npz(path: Path) -> None:
    import numpy as np

    np.savez(path.with_suffix(".npz"), a=np.zeros(2))
    path.with_suffix(".npz").rename(path)


def _zip_of(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as target:
            target.writestr(name, b"12")

    return write


KINDS: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "empty": (b"", "is empty; download"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "a web page; download the file"),
    "denied": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is XML"),
    "gz": (b"\x1f\x8b\x08" + b"\0" * 40, "a gzip archive; unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "an HDF5 file"),
    "npy": (b"\x93NUMPY\x01\x00" + b"\0" * 40, "a NumPy array"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0" + b"\0" * 40, "an ONNX model"),
    "text": (b"epoch 1 loss 2.0\nepoch 2 loss 1.0\n", "is text; give the file with the weights"),
    "json": (b'{"lr": 0.1, "epochs": 300, "model": "vit_small"}', "is text"),
    "bytes": (bytes(range(100, 256)) * 4, "of no format that is known"),
    "cut": (b"PK\x03\x04" + b"\0" * 40, "a zip archive that was cut or damaged"),
    "pickle": (pickle.dumps({"a": [1.0]}, protocol=2), "not one that torch.save wrote"),
    "npz": (_npz, r"a NumPy \.npz archive"),
    "keras": (_zip_of("model.weights.h5"), "a Keras archive"),
    "around": (_zip_of("inside/model.pth"), r"a zip archive around inside/model\.pth; unpack it"),
    "photos": (_zip_of("a.jpg"), "a zip archive of 1 files, none of them weights"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_checkpoint_is_named_with_a_way_out(
    name: str, suffix: str, tmp_path: Path
) -> None:
    content, words = KINDS[name]
    path = tmp_path / f"file.{suffix}"
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(path)
    shown = str(caught.value)
    assert len(shown) < 400
    assert not any(word in shown for word in ("torch.load", "Unpickl", "SafetensorError", "Header"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["checkpoint", "model.data-00000-of-00001"], "a TensorFlow checkpoint"),
        ([".metadata", "__0_0.distcp"], "a distributed checkpoint of torch; join it"),
        (["zero_to_fp32.py"], "a checkpoint of DeepSpeed"),
        (["epoch_1.pth"], r"without config\.json; give one of its files, such as .*epoch_1\.pth"),
        ([], r"folder without config\.json"),
    ],
)
def test_folders_that_are_none_of_hugging_faces_are_named(
    files: list[str], words: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(InputError, match=words):
        load_checkpoint(tmp_path)
