"""Reading files from strangers: tensors and plain values only, no pickled code, no fallback."""

import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from micl_bench.checkpoints._stand_ins import ALLOWED
from micl_bench.errors import InputError

_CONFIG_BYTES = 1 << 24
# What the library itself reads at most; the header is JSON, behind its length in eight bytes.
_SAFETENSORS_HEADER = 100_000_000
# Mean and std of the pixels; transformers saves it with the image processor, not with the model.
_PIXELS = "preprocessor_config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def read_safely(path: Path) -> dict[str, Any]:
    """Read a safetensors file, a `torch.save` file with weights-only loading, or a folder.

    Which of them a file is, its first bytes tell, not its name. Beside tensors, dictionaries and
    plain values, files may hold what published ones do (`argparse.Namespace`, numpy's scalars and
    arrays, ...): see `_stand_ins`. A folder is one of Hugging Face's (`config.json` beside
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
    try:
        if _is_safetensors(path):
            return _read_safetensors(path)
        is_zip = _check_archive(path)
        with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings():
            # Of an uncommon protocol of pickle, and of storages in an old manner: no news to anybody.
            warnings.simplefilter("ignore", UserWarning)
            if path.suffix == ".safetensors":
                # torch goes by that name; of an open file it sees the bytes alone.
                with path.open("rb") as file:
                    content = torch.load(file, map_location="cpu", weights_only=True)
            else:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        _refuse_odd_tensors(content, path)
    except pickle.UnpicklingError as error:
        raise InputError(_blocked(path, str(error))) from error
    except InputError:
        raise
    except (
        SafetensorError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        OSError,
        # Of a damaged pickle, from anywhere in torch's reader of it.
        AssertionError,
        AttributeError,
        LookupError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}; a dictionary of tensors is needed"
        )
    return content


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length, first = file.read(8), file.read(1)
    return first == b"{" and int.from_bytes(length, "little") <= _SAFETENSORS_HEADER


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Tensors, and the text that lies beside them."""
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, Any] = dict(file.metadata() or {})
    metadata.pop("format", None)
    return metadata | load_file(path)


def _check_archive(path: Path) -> bool:
    """Whether it is torch's zip archive, with as many bytes in it as it declares."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            # The names with which torch's files before version 0.1.10 begin.
            if b"ustar" in file.read(512):
                raise InputError(
                    f"{path} is a tar archive, which no weights-only loading reads; load it with the "
                    "code that made it and save its tensors again"
                )
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise InputError(
            f"{path} is a TorchScript archive, which holds code; save the `state_dict()` of its model"
        )
    size = path.stat().st_size
    declared = sum(entry.file_size for entry in entries)
    if declared > size:
        raise InputError(f"{path} of {size} bytes declares {declared} bytes of content; refused")
    return True


def _refuse_odd_tensors(content: Any, path: Path) -> None:
    """Tensors that are not simply numbers in the file.

    A tensor of strides 0 can claim any size over a file of some bytes; sparse ones claim any size.
    """
    waiting: list[Any] = [content]
    seen = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
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
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _blocked(path: Path, message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)", message)
    if not found:
        return f"{path} is no readable checkpoint (neither tensors nor plain values)"
    return (
        f"{path} holds {found.group(1)}, which weights-only loading refuses because unpickling it "
        "could run code; save it again with tensors and plain values only"
    )


def _read_folder(folder: Path) -> dict[str, Any]:
    """Hugging Face's layout; only the files that have a meaning there are opened."""
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
    """Files beside the index that it names; a name that leaves the folder is refused."""
    table = _read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise InputError(f"{index} has no `weight_map`")
    names = sorted(set(map(str, table.values())))
    for name in names:
        shard = index.parent / name
        # The file itself may be a link: the cache of downloads keeps the bytes elsewhere.
        if Path(name).name != name or shard.suffix != ".safetensors":
            raise InputError(f"{index} names {name!r}; shards are .safetensors files beside it")
    return [index.parent / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent} is a folder without {path.name}; folders are read in Hugging Face's layout"
        )
    if path.stat().st_size > _CONFIG_BYTES:
        raise InputError(f"{path} is too long for a configuration")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable JSON") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table")
    return content
