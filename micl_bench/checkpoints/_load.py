"""From a source (a file or folder, `timm:NAME`, `public:NAME`, `random:ARCH`) to a checkpoint."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch

from micl_bench.backbone import Vit, arch_names, init_mae_, named_arch, timm_vit
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._in_memory import digest_state
from micl_bench.checkpoints._infer import assumed
from micl_bench.checkpoints._public import fetch, known_public
from micl_bench.checkpoints._stated import seed_in
from micl_bench.checkpoints._statements import statements_of
from micl_bench.checkpoints._timm_hub import from_timm
from micl_bench.checkpoints._told import pixels_told, told_by
from micl_bench.data.image_files import name_text
from micl_bench.records.result import CheckpointInfo, Stage, visible_path
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError, UntoldError
from micl_bench.runtime.files import digest_file, digest_files, digest_json
from micl_bench.runtime.log import printable
from micl_bench.runtime.safe_reading.read import read_safely, with_its_folder

# Its names are what other formats are made of, so it is asked last: nothing else may claim the file.
_PLAIN = "timm"
# Our own names no further format, whatever else lies beside it.
_OWN = "micl_bench"
# Layouts of libraries that any method is trained with: to name one says nothing of method or pixels.
_LIBRARIES = (_PLAIN, "lightly", "openmmlab", "solo_learn")
_FOLDER_FILES = re.compile(
    r"(preprocessor_)?config\.json|.+\.safetensors|model\.safetensors\.index\.json"
    r"|pytorch_model\.bin"
)
_SHOWN = 5


def load_checkpoint(
    source: str | Path,
    *,
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    pixels: str | None = None,
    seed: int = 0,
) -> Checkpoint:
    """Read a checkpoint; every tensor of a file is accounted for, every parameter would be filled.

    Args:
        source: a file, a folder in Hugging Face's layout, `timm:NAME` (downloaded by timm),
            `public:NAME` (downloaded from its authors) or `random:ARCH` (MAE initialisation).
        arch: name of the architecture where the file's shapes do not tell it, or single values
            (`heads=6,grid=14x14`).
        layout: name of the format where the keys fit several, or to overrule them. A method's states
            what its code has by default, such as the norms' epsilon; a library's does not.
        branch: which of several networks in the file.
        pixels: mean and std that the network was trained with: `imagenet`, `inception`, `clip`, or six
            numbers with commas between them.
        seed: of `random:ARCH`.

    Raises:
        InputError: unknown source, format or architecture; unsafe, damaged or incomplete file.
    """
    kind, _, name = str(source).partition(":")
    if kind in ("random", "timm") and name:
        if layout or branch or pixels or (arch and arch != name):
            raise InputError(f"{source} needs no --arch, --format, --branch or --pixels")
        return _random(name, seed) if kind == "random" else from_timm(name)
    options = {"layout": layout, "branch": branch, "pixels": pixels}
    if kind == "public" and name:
        return _from_public(name, arch, options)
    checkpoint = _from_file(Path(source), arch, **options)
    checkpoint.say_guesses()
    return checkpoint


def load_backbone(
    source: str | Path,
    *,
    arch: str | None = None,
    img_size: int | None = None,
    layout: str | None = None,
    branch: str | None = None,
) -> Vit:
    """A timm ViT in eval mode; `forward_features(images_NCHW)` gives tokens after the final norm.

    Tokens are [CLS] (where there is one), registers, patches. Images are normalised as
    `load_checkpoint(...).normalise` does, which is ImageNet's mean and std for most; it raises the
    same errors.
    """
    loaded = load_checkpoint(source, arch=arch, layout=layout, branch=branch)
    return loaded.backbone(img_size=img_size)


def load_classifier(
    source: str | Path,
    *,
    arch: str | None = None,
    num_classes: int | None = None,
    layout: str | None = None,
    branch: str | None = None,
) -> Vit:
    """The same with its head: `model(images_NCHW)` gives logits.

    Raises:
        InputError: as `load_checkpoint`, no head, or another number of classes.
    """
    loaded = load_checkpoint(source, arch=arch, layout=layout, branch=branch)
    return loaded.classifier(num_classes=num_classes)


def require_names(source: str, *, arch: str = "", pixels: str = "") -> None:
    """Raise an InputError where a source, an architecture, a value of it or the name of pixels is
    unknown, without reading or downloading anything."""
    kind, _, name = source.partition(":")
    known = {"random": named_arch, "timm": timm_vit, "public": known_public}
    if kind in known and name:
        known[kind](name)  # type: ignore[operator]
    named = told_by(arch).name if arch else None
    if named is not None and named not in arch_names():
        timm_vit(named)
    if pixels:
        pixels_told(pixels)


def recognised_as(content: dict[str, Any]) -> list[str]:
    """Formats that claim a file's content; `timm` only where no other does."""
    formats = plugins.every("checkpoints", _format)
    plain = formats.pop(_PLAIN)
    claims = [name for name, module in formats.items() if module.recognise(content)]
    return claims or ([_PLAIN] if plain.recognise(content) else [])


def digest_of(path: Path) -> str:
    """SHA-256 of a checkpoint file, or over the files of a checkpoint folder, as records have it."""
    if path.is_file():
        return digest_file(path)
    files = (file for file in path.iterdir() if _FOLDER_FILES.fullmatch(file.name))
    return digest_files(path, (file for file in files if file.is_file()))


def _format(name: str) -> ModuleType:
    return plugins.find("checkpoints", name, recognise=Callable, convert=Callable)


def _from_file(
    path: Path, arch: str | None, *, layout: str | None, branch: str | None, pixels: str | None
) -> Checkpoint:
    """Read, convert, take what is stated for what would be assumed, and check."""
    wanted = pixels_told(pixels) if pixels is not None else None
    told = told_by(arch)
    source = visible_path(path)
    path = with_its_folder(path)
    content = read_safely(path)
    if _OWN in content and layout not in (None, _OWN):
        raise InputError(f"{path} is of the layout {_OWN}, not of {layout}; leave --format out")
    if {"optimizer", "step"} <= content.keys():
        raise InputError(f"{path} is the state of an unfinished run; use the backbone it ends with")
    with _misshapen(path):
        name = layout or _only_format(content, path)
        converted = _format(name).convert(content, arch=arch, branch=branch)
        if converted.untold_pixels and wanted is None:
            raise UntoldError(converted.untold_pixels)
        converted = _proven(converted, name, arch, layout)
        if _OWN not in content:
            converted = statements_of(content).applied(
                converted, told=told, pixels=wanted, is_folder=path.is_dir()
            )
        if wanted:
            converted = converted.with_pixels(wanted)
        converted = dataclasses.replace(
            converted,
            # Words that tables and terminals show, without control characters; files that do not say
            # what made them go by their own name.
            method=printable(converted.method or _name_of(path)),
            # As folders' names are written, which they are matched with.
            classes=tuple(map(name_text, converted.classes)),
            arch=dataclasses.replace(converted.arch, name=printable(converted.arch.name)),
            told_seed=seed_in(content),
        )
        info = CheckpointInfo(source=source, format=name, digest=digest_of(path))
        return Checkpoint.verified(info, converted)


def _proven(converted: Converted, name: str, arch: str | None, layout: str | None) -> Converted:
    """A file that nothing proves to be of its format: what that code has by default is assumed too.

    Raises:
        InputError: positions lie as the method's code never has them.
    """
    found = converted.arch
    if found.patch_positions_only and not found.num_registers and name not in (*_LIBRARIES, _OWN):
        raise InputError(
            f"{found.num_patches} positions without one for [CLS], which the code of {name} always has: "
            "those of the patches are of no square input, the only ones read"
        )
    guesses = set(converted.guesses)
    # To name a library says who brings positions to another grid, not what its model was built with.
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
    """Of a file or folder; of a snapshot in Hugging Face's cache, the model's (`facebook/dinov2`)."""
    if path.is_file():
        return path.stem.removesuffix(".pth")
    place = path.resolve()
    repository = place.parent.parent.name
    if re.fullmatch(r"[0-9a-f]{40}", place.name) and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return place.name


@contextmanager
def _misshapen(path: Path) -> Iterator[None]:
    """A file may hold anything under the names of a layout: numbers for tables, tables for tensors."""
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


def _from_public(name: str, arch: str | None, options: dict[str, str | None]) -> Checkpoint:
    path, public = fetch(name)
    options["layout"] = options["layout"] or public.format or None
    try:
        loaded = _from_file(path, arch, **options)
    except UntoldError:
        if arch or not public.arch:
            raise
        loaded = _from_file(path, public.arch, **options)
    # The table of public checkpoints was made from what their authors state.
    method = public.method or loaded.method
    content = dataclasses.replace(loaded.content, method=method, guesses=(), proven=True)
    info = dataclasses.replace(loaded.info, source=f"public:{name}")
    return Checkpoint(info=info, content=content)


def _random(name: str, seed: int) -> Checkpoint:
    arch = named_arch(name)
    model = arch.build()
    init_mae_(model, generator=torch.Generator().manual_seed(seed))
    settings = {"task": "initialise", "arch": name, "weights": "MAE's initialisation"}
    drawn = Stage(
        task="initialise",
        method="random weights",
        fingerprint=digest_json(settings),
        seed=seed,
        epochs=0,
        data="",
        data_digest="",
        settings=settings,
    )
    state = model.state_dict()
    content = Converted(
        arch=arch,
        state=state,
        method="random weights",
        pool="token",
        num_classes=0,
        origin=(drawn,),
    )
    info = CheckpointInfo(source=f"random:{name}", format="random", digest=digest_state(state))
    return Checkpoint.verified(info, content)
