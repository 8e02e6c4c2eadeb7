"""Reading files from strangers: tensors and plain values only, no pickled code, no fallback."""

import io
import pickle
import struct
import warnings
import zipfile
import zlib
from argparse import Namespace
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.allowlist import ALLOWED, UnreadError
from micl_bench.runtime.safe_reading.file_kinds import (
    unreadable,
    what_archive,
    what_else,
    what_folder,
)
from micl_bench.runtime.safe_reading.pickle_calls import UnsafePickleError
from micl_bench.runtime.safe_reading.pickles import check_pickle
from micl_bench.runtime.validate import built, read_json

_CONFIG_BYTES = 1 << 24
# The header is JSON, behind its length in eight bytes; those of published ViTs have some 100 kB.
_SAFETENSORS_HEADER = 1 << 24
_MOST_PARTS = 10_000_000
"""Parts of tables within tables; each counts wherever it occurs."""
# Tensors may share their numbers (an average that is equal so far), within reason.
_SHARED_BYTES, _MOST_SHARED = 1 << 24, 8
_LONGEST_EMPTY = 1 << 16
_DAMAGED = (
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    OSError,
    # A damaged pickle raises these from anywhere in the reading of it.
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Mean and std of the pixels; transformers saves it with the image processor, not with the model.
_PIXELS = "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def read_safely(path: Path) -> dict[str, Any]:
    """Read a safetensors file, a `torch.save` file with weights-only loading, or a folder.

    The kind of a file is known by its first bytes, not by its name. Beside tensors, dictionaries and
    plain values, files may hold what published ones do (`argparse.Namespace`, numpy's scalars and
    arrays, ...): see `allowlist.py`. A folder is one of Hugging Face's (`config.json` beside
    `model.safetensors`, its shards, or `pytorch_model.bin`) and gives
    `{"config": {...}, "model": {tensors}}`, and `preprocessor_config` where it is there.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or holds other objects; the message
            names the blocked one. Nothing of it was run.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(
            f"no checkpoint file at {path}; give a file, `timm:NAME`, `public:NAME` or `random:ARCH`"
        )
    if kind := what_else(path):
        raise InputError(f"{path} {kind}")
    try:
        content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
        _check_content(content, path)
    except UnsafePickleError as error:
        raise InputError(f"{path} {error}") from error
    except UnreadError as error:
        raise InputError(f"{path} holds {error}") from error
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path} is no readable checkpoint: it {unreadable(path)}") from error
    except MemoryError as error:
        raise InputError(
            f"there is not enough memory to read {path} ({path.stat().st_size:,} bytes)"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}; a dictionary of tensors is needed"
        )
    return content


def with_its_folder(path: Path) -> Path:
    """Return the folder of a file that lies beside its `config.json`, which says more; else the file."""
    has_more = path.name in _WEIGHTS and (path.parent / "config.json").is_file()
    return path.parent if has_more and path.is_file() else path


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length, first = file.read(8), file.read(1)
    return first == b"{" and int.from_bytes(length, "little") <= _SAFETENSORS_HEADER


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Read tensors, and the text that lies beside them."""
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, Any] = dict(file.metadata() or {})
    metadata.pop("format", None)
    return metadata | load_file(path)


def _read_pickle(path: Path) -> Any:
    """Load a file of torch.save; its pickles are followed first, without running them."""
    is_zip = _check_archive(path)
    with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings():
        # It warns of an uncommon protocol of pickle, and of storages in an old manner.
        warnings.simplefilter("ignore", UserWarning)
        if path.suffix == ".safetensors":
            # torch goes by that name; of an open file it sees the bytes alone.
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _check_archive(path: Path) -> bool:
    """Check a file's pickles, and that it does not inflate; return whether it is torch's zip archive."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            _check_old(file, path, size)
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if kind := what_archive(path, entries):
            raise InputError(f"{path} {kind}")
        declared = sum(entry.file_size for entry in entries)
        if declared > size:
            raise InputError(
                f"{path} of {size} bytes declares {declared} bytes of content; refused"
            )
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                check_pickle(io.BytesIO(archive.read(entry)), size=size)
    return True


def _check_old(file: IO[bytes], path: Path, size: int) -> None:
    """Check the pickles of a file without an archive: a magic number, and what torch writes after it."""
    magic = check_pickle(file, size=size)
    if magic != torch.serialization.MAGIC_NUMBER:
        raise InputError(
            f"{path} is a pickle, but not one that torch.save wrote; load it with the code that made "
            "it and save its tensors with torch.save"
        )
    # Protocol, the machine it was written on, the content, and the names of its storages.
    for _ in range(4):
        check_pickle(file, size=size)


def _check_content(content: Any, path: Path) -> None:
    """Check that tensors are numbers in the file, and that tables do not grow when they are walked.

    A tensor of strides 0 can claim any size over a file of some bytes; sparse ones claim any size; a
    list that holds another one twice, which holds another one twice, has no end.
    """
    waiting: list[tuple[Any, bool]] = [(content, False)]
    parts: dict[int, int] = {}
    within: set[int] = set()
    claimed, storages = 0, dict[int, int]()
    while waiting:
        value, is_done = waiting.pop()
        if isinstance(value, Tensor):
            if id(value) not in parts:
                _refuse_odd_tensor(value, path)
                storage = value.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
                claimed += value.numel() * value.element_size()
                parts[id(value)] = 1
            continue
        inner = _inner(value)
        if inner is None or (not is_done and id(value) in parts):
            continue
        if is_done:
            within.discard(id(value))
            parts[id(value)] = 1 + sum(parts.get(id(one), 1) for one in inner)
            if parts[id(value)] > _MOST_PARTS:
                raise InputError(f"{path} holds tables of more than {_MOST_PARTS:,} parts; refused")
        elif id(value) in within:
            raise InputError(f"{path} holds a table that holds itself; refused")
        else:
            within.add(id(value))
            waiting.append((value, True))
            waiting += [(one, False) for one in inner]
    if claimed > _SHARED_BYTES + _MOST_SHARED * sum(storages.values()):
        raise InputError(
            f"{path} holds tensors of {claimed:,} bytes over {sum(storages.values()):,}; refused"
        )


def _inner(value: Any) -> list[Any] | None:
    """Return the values that a table or an object holds; None for what holds none."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return list(vars(value).values()) if isinstance(value, Namespace) else None


def _refuse_odd_tensor(value: Tensor, path: Path) -> None:
    if value.layout != torch.strided or value.device.type != "cpu":
        kind = str(value.layout).removeprefix("torch.")
        raise InputError(
            f"{path} holds a tensor of layout {kind} on {value.device}; dense ones with their "
            "numbers are read"
        )
    if value.numel() > value.untyped_storage().nbytes():
        raise InputError(
            f"{path} holds a tensor of {value.numel()} numbers in "
            f"{value.untyped_storage().nbytes()} bytes; refused"
        )
    if not value.numel() and max(value.shape, default=0) > _LONGEST_EMPTY:
        raise InputError(f"{path} holds a tensor of shape {tuple(value.shape)}, without numbers")


def _read_folder(folder: Path) -> dict[str, Any]:
    """Read Hugging Face's layout; only the files that have a meaning there are opened."""
    content = {"config": _read_json(folder / "config.json")}
    if (folder / _PIXELS).is_file():
        content["preprocessor_config"] = _read_json(folder / _PIXELS)
    for name in _WEIGHTS:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".json"):
            return {**content, "model": read_safely(folder / name)}
        model: dict[str, Any] = {}
        for shard in _shards(folder / name):
            model |= read_safely(shard)
        return {**content, "model": model}
    raise InputError(f"{folder} holds none of {', '.join(_WEIGHTS)} beside config.json")


def _shards(index: Path) -> list[Path]:
    """Return the files beside an index that it names; a name that leaves the folder is refused."""
    table = _read_json(index).get("weight_map")
    names = sorted(set(built(dict[str, str], table, f"{index}: $.weight_map").values()))
    for name in names:
        shard = index.parent / name
        # The file itself may be a link: the cache of downloads keeps the bytes elsewhere.
        if Path(name).name != name or shard.suffix != ".safetensors":
            raise InputError(f"{index} names {name!r}; shards are .safetensors files beside it")
    return [index.parent / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent} {what_folder(path.parent)}")
    return read_json(path, dict[str, Any], most=_CONFIG_BYTES)
