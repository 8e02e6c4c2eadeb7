"""Checkpoint files and folders: recognised, converted, completed by their own words, checked."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from micl_bench.checkpoints._agreement import apply_statements
from micl_bench.checkpoints._beside import read_beside
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import assumed
from micl_bench.checkpoints._metadata import statements_of
from micl_bench.checkpoints._options import stated_arch, stated_pixels
from micl_bench.checkpoints._pretraining import seed_in
from micl_bench.data.image_files import name_text
from micl_bench.records.result import visible_path
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError, UnstatedError
from micl_bench.runtime.files import digest_file, digest_files
from micl_bench.runtime.log import printable
from micl_bench.runtime.safe_reading.read import read_safely, with_its_folder

# Its names are what other formats are made of, so it is asked last: nothing else may claim the file.
_PLAIN = "timm"
# Our own names no further format, whatever else lies beside it.
_OWN = "micl_bench"
# Libraries that train any method: naming one states neither the method nor the pixels.
_LIBRARIES = (_PLAIN, "lightly", "openmmlab", "solo_learn")
_FOLDER_FILES = re.compile(
    r"(preprocessor_)?config\.json|.+\.safetensors|model\.safetensors\.index\.json"
    r"|pytorch_model\.bin"
)
_SHOWN = 5


def read_file(
    path: Path,
    arch: str | None,
    *,
    layout: str | None,
    branch: str | None,
    pixels: str | None,
    beside: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Read a checkpoint file, or a folder in Hugging Face's layout.

    Args:
        arch, layout, branch, pixels, beside: as for `load_checkpoint`.

    Raises:
        InputError: the format or architecture is unknown; the file is unsafe, damaged or incomplete.
    """
    wanted = stated_pixels(pixels) if pixels is not None else None
    stated = stated_arch(arch)
    source = visible_path(path)
    path = with_its_folder(path)
    content = read_safely(path)
    if _OWN in content and layout not in (None, _OWN):
        raise InputError(f"{path} is of the layout {_OWN}, not of {layout}; leave --format out")
    if {"optimizer", "step"} <= content.keys():
        raise InputError(f"{path} is the state of an unfinished run; use the backbone it ends with")
    with _misshapen(path):
        name = layout or _only_format(content, path)
        converted = find_format(name).convert(content, arch=arch, branch=branch)
        if converted.unknown_pixels and wanted is None:
            raise UnstatedError(converted.unknown_pixels)
        converted = _proven(converted, name, arch, layout)
        if _OWN not in content:
            words = statements_of(content, is_folder=path.is_dir())
            converted = apply_statements(words, converted, stated=stated, pixels=wanted)
        if wanted:
            converted = converted.with_pixels(wanted)
        converted = dataclasses.replace(
            converted,
            # Tables and terminals show it, so without control characters; the file's name by default.
            method=printable(converted.method or _name_of(path)),
            # Written as names of class folders, with which they are matched.
            classes=tuple(map(name_text, converted.classes)),
            arch=dataclasses.replace(converted.arch, name=printable(converted.arch.name)),
            own_seed=seed_in(content),
        )
        tensors, fates = read_beside(content, beside or {})
        converted = dataclasses.replace(converted, beside=tensors, beside_fates=fates)
        info = CheckpointInfo(source=source, format=name, digest=digest_of(path))
        return Checkpoint.verified(info, converted)


def recognised_as(content: dict[str, Any]) -> list[str]:
    """Return the formats that claim a file's content; `timm` only where no other does."""
    formats = plugins.every("checkpoints", find_format)
    plain = formats.pop(_PLAIN)
    claims = [name for name, module in formats.items() if module.recognise(content)]
    return claims or ([_PLAIN] if plain.recognise(content) else [])


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a checkpoint file, or over the files of a folder, as records have it."""
    if path.is_file():
        return digest_file(path)
    files = (file for file in path.iterdir() if _FOLDER_FILES.fullmatch(file.name))
    return digest_files(path, (file for file in files if file.is_file()))


def find_format(name: str) -> ModuleType:
    return plugins.find("checkpoints", name, recognise=Callable, convert=Callable)


def _proven(converted: Converted, name: str, arch: str | None, layout: str | None) -> Converted:
    """Add the format's defaults to the assumptions where nothing proves that its code wrote the file.

    Raises:
        InputError: the positions are none that the method's code has.
    """
    found = converted.arch
    if found.patch_positions_only and not found.num_registers and name not in (*_LIBRARIES, _OWN):
        raise InputError(
            f"{found.num_patches} positions without one for [CLS], which the code of {name} always has: "
            "those of the patches are of no square input, the only ones read"
        )
    guesses = set(converted.guesses)
    # Naming a library states the resampling of positions, not the options of its model.
    if not converted.proven and (layout is None or name in _LIBRARIES):
        guesses |= set(assumed(converted.arch, arch, is_open=True))
    if layout is None and not converted.proven:
        guesses.add("positions")
        if name not in _LIBRARIES:
            guesses.add("pixels")
            converted = dataclasses.replace(converted, method="")
    if not converted.arch.absolute_positions:
        guesses.discard("positions")
    ordered = tuple(guess for guess in get_args(Guess) if guess in guesses)
    return dataclasses.replace(converted, guesses=ordered)


def _name_of(path: Path) -> str:
    """Return a file's or folder's name; of a snapshot in Hugging Face's cache, the model's name."""
    if path.is_file():
        return path.stem.removesuffix(".pth")
    place = path.resolve()
    repository = place.parent.parent.name
    if re.fullmatch(r"[0-9a-f]{40}", place.name) and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return place.name


@contextmanager
def _misshapen(path: Path) -> Iterator[None]:
    """Turn errors of a file that holds other things than tensors under a layout's names into a line."""
    try:
        yield
    except InputError as error:
        # Layouts do not know which file it is.
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except (AssertionError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise InputError(
            f"{path} is damaged, or of no layout that is known: its tensors are not those of a ViT "
            "(--debug shows where it stopped)"
        ) from error


def _only_format(content: dict[str, Any], path: Path) -> str:
    claims = recognised_as(content)
    if len(claims) == 1:
        return claims[0]
    if claims:
        raise InputError(
            f"the keys of {path} fit several formats: {', '.join(claims)}; choose with --format"
        )
    inner = [name for value in content.values() if isinstance(value, dict) for name in value]
    shown = ", ".join(map(str, [*list(content)[:_SHOWN], *inner[:_SHOWN]]))
    raise InputError(
        f"{path} is of no known checkpoint layout; known: {', '.join(plugins.names('checkpoints'))}; "
        f"its keys begin with {shown or 'nothing'}"
    )
