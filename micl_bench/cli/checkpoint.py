"""`micl-bench inspect` and `convert`: what a checkpoint is, and the same in another layout."""

import enum
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micl_bench.cli.options import SOURCES, Arch, Branch, Layout, Pixels, Strict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.network import check_source
from micl_bench.runtime.terminal import columns_text

if TYPE_CHECKING:
    from micl_bench.checkpoints import Checkpoint

_Source = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help=SOURCES,
        show_default=False,
        callback=check_source,
    ),
]


class _Target(str, enum.Enum):
    timm = "timm"
    safetensors = "safetensors"
    openmmlab = "openmmlab"


def inspect(
    source: _Source,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    pixels: Pixels = None,
    mapping: Annotated[
        bool, typer.Option("--mapping", help="Print what became of every tensor.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all of it as JSON too.")
    ] = None,
) -> None:
    """Print what a checkpoint is: format, architecture, mapping of its tensors, digest.

    It is read as an evaluation would read it, so that what is refused there is refused here.
    """
    import json

    from micl_bench.runtime.files import atomic_write

    if json_file and json_file.is_dir():
        raise InputError(f"--json {json_file} is a folder; give a file")
    from micl_bench.checkpoints import load_checkpoint

    loaded = load_checkpoint(source, arch=arch, layout=layout, branch=branch, pixels=pixels)
    found = _description(loaded)
    print(columns_text((name, str(value)) for name, value in found.items()))
    if mapping:
        _print_mapping(loaded)
    if json_file:
        text = json.dumps({**found, "mapping": _mapping(loaded)}, indent=1) + "\n"
        atomic_write(json_file, text.encode())


def convert(
    source: _Source,
    to: Annotated[_Target, typer.Option(help="Layout of the new file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new file.", show_default=False)],
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    pixels: Pixels = None,
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
    from micl_bench.checkpoints import export, load_checkpoint

    loaded = load_checkpoint(source, arch=arch, layout=layout, branch=branch, pixels=pixels)
    if strict:
        loaded.refuse_guesses(None)
    note = export(loaded, to.value, out)
    print(f"{to.value}: {out}")
    if note:
        print(note)


def _description(loaded: "Checkpoint") -> dict[str, Any]:
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


def _mapping(loaded: "Checkpoint") -> list[dict[str, str]]:
    return [
        {"name": fate.name, "kind": fate.kind, "target": fate.target, "reason": fate.reason}
        for fate in loaded.content.fates
    ]


def _print_mapping(loaded: "Checkpoint") -> None:
    rows = []
    for row in _mapping(loaded):
        target = row["target"] if row["target"] != row["name"] else ""
        notes = "  ".join(filter(None, (target, row["reason"])))
        rows.append((row["name"], row["kind"], notes))
    print(columns_text(rows))
