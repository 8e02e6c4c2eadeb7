"""`micl-bench inspect`, `convert` and `features`: what a checkpoint is, in another layout, and gives."""

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
        bool, typer.Option("--mapping", help="Print what became of every tensor.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Print what a checkpoint is: format, architecture, mapping of its tensors, digest.

    It is read as an evaluation would read it, so that what is refused there is refused here.
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
    to: Annotated[_Target, typer.Option(help="Layout of the new file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new file.", show_default=False)],
    reading: Reading,
    strict: Strict = False,
) -> None:
    """Write a checkpoint in another layout; read again, it gives the same features, bit for bit.

    timm: its names, as its training script saves them. safetensors: the same without pickle.
    openmmlab: the backbone of mmsegmentation's VisionTransformer or BEiT, without a head.

    A file that is there is never changed: one with the same content is as good as a new one, another is
    refused.
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
        typer.Option(help="cls, avg (the mean patch) or tokens (all of them), after the norm."),
    ] = "cls",
    img_size: ImageSize = None,
    crop_pct: CropPct = 0.875,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images read at a time; changes no bit of the result.")
    ] = 128,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode; 0 for none beside.")
    ] = 0,
    strict: Strict = False,
) -> None:
    """Write a backbone's features of any images: arrays `features` and `files`, `labels` if known.

    Started by torchrun, its processes share the work; the file is the same, byte for byte.
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
    """A tensor's name, what became of it, and under which name or why."""
    target = fate.target if fate.target != fate.name else ""
    return fate.name, fate.kind, "  ".join(filter(None, (target, fate.reason)))
