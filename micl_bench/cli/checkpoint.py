"""`micl-bench inspect`, `convert` and `features`: describe a checkpoint, convert it, compute with it."""

import dataclasses
import enum
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from micl_bench.cli.options import (
    SOURCES,
    CropPct,
    Images,
    ImageSize,
    Json,
    Reading,
    Source,
    Strict,
    grouped,
    write_json,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.network import check_source
from micl_bench.runtime.terminal import columns_text

if TYPE_CHECKING:
    from micl_bench.checkpoints import Checkpoint
    from micl_bench.checkpoints._converted import Fate

_Argument = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help=SOURCES, show_default=False, callback=check_source),
]


class _Target(str, enum.Enum):
    timm = "timm"
    safetensors = "safetensors"
    openmmlab = "openmmlab"


@grouped
def inspect(
    source: _Argument,
    reading: Reading,
    mapping: Annotated[
        bool, typer.Option("--mapping", help="Print each tensor of the file and where it goes.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Print a checkpoint's format, architecture, tensors and digest.

    It is read as an evaluation reads it: a file that an evaluation would refuse is refused here.
    """
    loaded = reading.load(source)
    found = _description(loaded)
    print(columns_text(found.items()))
    if mapping:
        print(columns_text(map(_fate_in_words, loaded.content.fates)))
    fates = [
        {"name": fate.name, "kind": fate.kind, "target": fate.target, "reason": fate.reason}
        for fate in loaded.content.fates
    ]
    write_json(json_file, {**found, "mapping": fates})


@grouped
def convert(
    source: _Argument,
    to: Annotated[_Target, typer.Option(help="Format of the new file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    reading: Reading,
    strict: Strict = False,
) -> None:
    """Write a checkpoint in another format.

    The new file gives the same features as the old one, bit for bit. timm: timm's names, as its training
    script saves them. safetensors: the same without pickle. openmmlab: the backbone of mmsegmentation's
    VisionTransformer or BEiT, without a head.

    An existing file is never changed: if it has the same content, nothing is written; if it has another,
    the command is refused.
    """
    if out.exists() and not out.is_file():
        raise InputError(f"--out {out} is no file; give another name")
    from micl_bench.checkpoints import export

    loaded = reading.load(source)
    if strict:
        loaded.refuse_guesses(None)
    note = export(loaded, to.value, out)
    print(f"{to.value}: {out}")
    if note:
        print(note)


@grouped
def features(
    checkpoint: Source,
    reading: Reading,
    images: Images,
    out: Annotated[Path, typer.Option(help="The .npz file to write.", show_default=False)],
    pool: Annotated[
        str,
        typer.Option(
            help="cls, avg (the mean patch) or tokens (all tokens), after the final norm."
        ),
    ] = "cls",
    img_size: ImageSize = None,
    crop_pct: CropPct = 0.875,
    precision: Annotated[
        str, typer.Option(help="Precision of the network: fp32 or bf16.")
    ] = "fp32",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward pass; changes no bit of the result.")
    ] = 128,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images; 0 to decode in this one.")
    ] = 0,
    strict: Strict = False,
) -> None:
    """Write a backbone's features of images to an .npz file.

    It has the arrays `features` and `files`, and `labels` where the images lie in class folders. Several
    processes, started by torchrun, share the work; the file is the same, byte for byte.
    """
    from micl_bench.data.pixels import Pixels
    from micl_bench.engine.frozen.feature_export import export_features
    from micl_bench.runtime.distributed import process_group
    from micl_bench.runtime.log import process_number
    from micl_bench.runtime.values import Precision, shown

    if precision not in get_args(Precision):
        raise InputError(
            f"--precision is {shown(precision)}; allowed: {', '.join(get_args(Precision))}"
        )
    with process_group() as device:
        pixels = Pixels(img_size=img_size or 0, crop_pct=crop_pct)
        loaded = reading.load(checkpoint)
        size = loaded.input_size(pixels.img_size)
        if strict:
            loaded.refuse_guesses(size)
        shape = export_features(
            loaded,
            images,
            out,
            pool=pool,
            pixels=dataclasses.replace(pixels, img_size=size),
            precision=precision,
            device=device,
            batch_size=batch_size,
            num_workers=workers,
        )
    if process_number() == 0:
        print(f"features: {out}  {' x '.join(map(str, shape))}")


def _description(loaded: "Checkpoint") -> dict[str, str]:
    content, info, guesses = loaded.content, loaded.info, loaded.guesses_at(None)
    head = sum(value.numel() for name, value in content.state.items() if name.startswith("head."))
    whole = sum(value.numel() for value in content.state.values())
    grid = content.arch.img_size // content.arch.patch_size
    counts = Counter(fate.kind for fate in content.fates)
    reads = "[CLS]" if content.pool == "token" else "the mean of the patches"
    return {
        "format": info.format,
        "method": content.method,
        "branch": content.branch or "the only one",
        "architecture": _architecture(loaded),
        "parameters": f"{(whole - head) / 1e6:.2f} M",
        "input": f"{content.arch.img_size} x {content.arch.img_size} px, {grid} x {grid} patches",
        "positions": f"at other sizes: {loaded.position_rule}",
        "pixels": loaded.described_at(content.arch.img_size).normalisation,
        "head": f"{content.num_classes} classes, reads {reads}" if content.num_classes else "none",
        "tensors": ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "not a file",
        "sha256": info.digest,
        "assumed": ", ".join(f"{words} ({option})" for words, option in guesses.items())
        or "nothing that the file does not state",
    }


def _architecture(loaded: "Checkpoint") -> str:
    arch = loaded.arch
    parts = [
        f"width {arch.width}",
        f"depth {arch.depth}",
        f"{arch.num_heads} heads",
        f"patch {arch.patch_size}",
        f"MLP x {arch.mlp_ratio:g}",
        "[CLS]" if arch.class_token else "no [CLS]",
    ]
    parts += [f"{arch.num_registers} registers"] if arch.num_registers else []
    parts += ["layer scale"] if arch.layer_scale else []
    parts += ["no bias of q, k, v"] if not arch.qkv_bias else []
    parts += [f"norm eps {arch.norm_eps:g}"]
    if arch.relative_positions:
        parts += [
            "relative positions "
            + ("in each block" if arch.relative_positions == "block" else "shared by all blocks")
        ]
    parts += [f"timm's {arch.timm_name}"] if arch.timm_name else []
    return f"{arch.name}: {', '.join(parts)}"


def _fate_in_words(fate: "Fate") -> tuple[str, str, str]:
    """Return a tensor's name, its kind, and the name that it gets or the reason why it gets none."""
    target = fate.target if fate.target != fate.name else ""
    return fate.name, fate.kind, "  ".join(filter(None, (target, fate.reason)))
