"""Sources of checkpoints: a file or folder, `timm:NAME`, `public:NAME`, `random:ARCH`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from micl_bench.backbone import Vit, arch_names, init_mae_, named_arch, timm_vit
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._in_memory import digest_state
from micl_bench.checkpoints._options import stated_arch, stated_pixels
from micl_bench.checkpoints._public import fetch, known_public
from micl_bench.checkpoints._read_file import read_file
from micl_bench.checkpoints._timm_hub import from_timm
from micl_bench.records.weights import CheckpointInfo, Stage
from micl_bench.runtime.errors import InputError, UnstatedError


def load_checkpoint(
    source: str | Path,
    *,
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    pixels: str | None = None,
    seed: int = 0,
    beside: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Read a checkpoint; every tensor of a file is accounted for, every parameter would be filled.

    Args:
        source: a file, a folder in Hugging Face's layout, `timm:NAME` (downloaded by timm),
            `public:NAME` (downloaded from its authors) or `random:ARCH` (MAE initialisation).
        arch: name of the architecture where the file's shapes do not show it, or single values
            (`heads=6,grid=14x14`).
        layout: name of the format where the keys fit several, or to overrule them. A method's name
            states the defaults of its code, such as the norms' epsilon; a library's does not.
        branch: name of one of several networks in the file.
        pixels: mean and std that the network was trained with: `imagenet`, `inception`, `clip`, or six
            numbers with commas between them.
        seed: seed of `random:ARCH`.
        beside: patterns of whole names of further tensors in the file (`TABLE.NAME` in a table), and
            the names to give them in `content.beside`, as `re.Match.expand` takes them.

    Raises:
        InputError: the source, format or architecture is unknown; the file is unsafe, damaged or
            incomplete.
    """
    kind, _, name = str(source).partition(":")
    if kind in ("random", "timm") and name:
        if layout or branch or pixels or (arch and arch != name):
            raise InputError(f"{source} needs no --arch, --format, --branch or --pixels")
        return _random(name, seed) if kind == "random" else from_timm(name)
    options: dict[str, Any] = {"layout": layout, "branch": branch, "pixels": pixels}
    options["beside"] = beside
    if kind == "public" and name:
        return _from_public(name, arch, options)
    checkpoint = read_file(Path(source), arch, **options)
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
    """Return a timm ViT in eval mode; `forward_features(images_NCHW)` gives tokens after the final norm.

    Tokens are [CLS] (where there is one), registers, patches. Images must be normalised as
    `load_checkpoint(...).normalise` does, for most networks by ImageNet's mean and std.

    Raises:
        InputError: as `load_checkpoint`.
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
    """Return a timm ViT with its head in eval mode; `model(images_NCHW)` gives logits.

    Raises:
        InputError: as `load_checkpoint`; there is no head, or it has another number of classes.
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
    named = stated_arch(arch).name if arch else None
    if named is not None and named not in arch_names():
        timm_vit(named)
    if pixels:
        stated_pixels(pixels)


def _from_public(name: str, arch: str | None, options: dict[str, Any]) -> Checkpoint:
    path, public = fetch(name)
    options["layout"] = options["layout"] or public.format or None
    try:
        loaded = read_file(path, arch, **options)
    except UnstatedError:
        if arch or not public.arch:
            raise
        loaded = read_file(path, public.arch, **options)
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
    drawn = Stage.of("initialise", "random weights", settings, seed=seed)
    state = model.state_dict()
    content = Converted(
        arch=arch,
        state=state,
        method="random weights",
        pool="token" if arch.class_token else "avg",
        num_classes=0,
        origin=(drawn,),
    )
    info = CheckpointInfo(source=f"random:{name}", format="random", digest=digest_state(state))
    return Checkpoint.verified(info, content)
