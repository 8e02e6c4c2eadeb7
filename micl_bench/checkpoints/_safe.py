"""Reading files from strangers: tensors and plain values only, no pickled code, no fallback."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from micl_bench.errors import InputError


def read_safely(path: Path) -> dict[str, Any]:
    """Read `.safetensors`, or a `torch.save` file with weights-only loading.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or holds objects other than
            tensors and plain values; the message names the blocked one. Nothing of it was run.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}; give a file, `timm:NAME` or `random:ARCH`")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_blocked(path, str(error))) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}; a dictionary of tensors is needed"
        )
    return content


def _blocked(path: Path, message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+) was not an allowed", message)
    if not found:
        return f"{path} is no readable checkpoint (neither tensors nor plain values)"
    return (
        f"{path} holds {found.group(1)}, which weights-only loading refuses because unpickling it "
        "could run code; save it again with tensors and plain values only"
    )
