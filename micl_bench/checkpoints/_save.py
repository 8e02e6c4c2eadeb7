"""Writing of checkpoints in our own layout and in those of others."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints.micl_bench import ABOUT
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path, digest_file, path_once

# mmsegmentation's names of its own VisionTransformer and BEiT.
_OPENMMLAB = (
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"norm\.", "ln1."),
    (r"blocks\.(\d+)\.norm([12])\.", r"layers.\1.ln\2."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
    (r"blocks\.", "layers."),
)
# Its VisionTransformer calls torch's own attention; its BEiT does not.
_TORCH_ATTENTION = (
    (r"blocks\.(\d+)\.attn\.qkv\.", r"layers.\1.attn.attn.in_proj_"),
    (r"blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attn.attn.out_proj."),
)

# A safetensors file begins with the length of its header.
_LENGTH_BYTES = 8


def save_checkpoint(
    path: Path,
    model: Vit,
    arch: Arch,
    *,
    method: str,
    provenance: dict[str, Any],
    stage: Stage | None = None,
    start: Checkpoint | None = None,
) -> str:
    """Write weights, architecture and provenance atomically, and return the file's SHA-256.

    Args:
        method: the method that made the weights, as tables print it.
        provenance: plain values: recipe, seed, steps, command, parent checkpoint, ...
        stage: the training that the weights come from; those of `start` are kept before it. Without
            it the file does not state the origin of the weights.
        start: the checkpoint that training began with; its pixels' mean and std and its resampling of
            positions hold for the new file too.
    """
    earlier = start.content.origin if start else ()
    stages = [dataclasses.asdict(one) for one in (*earlier, stage)] if stage else []
    # As JSON gives it back: weights-only loading knows no tuples of ours.
    origin = json.loads(json.dumps(stages))
    head = (arch, method, model.global_pool, model.num_classes)
    content = _described(*head, {**provenance, "origin": origin})
    tensors = model.state_dict().items()
    content["model"] = {name: tensor.detach().cpu() for name, tensor in tensors}
    if start:
        content |= _reading(start.content)
    with atomic_path(path) as temporary:
        _save(content, temporary)
    return digest_file(path)


def _save(content: dict[str, Any], path: Path) -> None:
    # Given a name, torch writes it into the file, and equal weights would have unequal digests.
    with path.open("wb") as file:
        torch.save(content, file)


def export(checkpoint: Checkpoint, layout: str, path: Path) -> str:
    """Write a checkpoint in a layout of others (`_EXPORTS`), which `load_checkpoint` reads again.

    Returns:
        a note for the file's user; empty where there is nothing to say.

    Raises:
        InputError: there is a file with another content, or the layout has no place for the
            architecture.
    """
    return _EXPORTS[layout](checkpoint, path)


def _timm(checkpoint: Checkpoint, path: Path) -> str:
    content = {
        "arch": checkpoint.arch.timm_name or checkpoint.arch.name,
        "state_dict": _whole(checkpoint.content.state),
        ABOUT: json.dumps(_about(checkpoint)),
    }
    with path_once(path) as temporary:
        _save(content, temporary)
    return ""


def _safetensors(checkpoint: Checkpoint, path: Path) -> str:
    if path.suffix != ".safetensors":
        raise InputError(f"--out {path} must end in .safetensors")
    with path_once(path) as temporary:
        metadata = {"format": "pt", ABOUT: json.dumps(_about(checkpoint))}
        # Its `save_file` writes to a file of its own, which no sweep knows, and readable by few.
        temporary.write_bytes(_ordered(save(_whole(checkpoint.content.state), metadata)))
    return ""


def _ordered(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, whose order changes from one writing to the next."""
    size = int.from_bytes(content[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + size
    header = json.loads(content[_LENGTH_BYTES:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    assert len(text) == size
    return content[:_LENGTH_BYTES] + text + content[end:]


def _openmmlab(checkpoint: Checkpoint, path: Path) -> str:
    arch, source = checkpoint.arch, checkpoint.info.source
    is_beit = arch.relative_positions == "block" and arch.layer_scale
    plain = dataclasses.replace(arch, qkv_bias=True).is_plain
    if arch.timm_name or not (is_beit or plain):
        raise InputError(
            f"mmsegmentation has no backbone for {source}: its VisionTransformer has [CLS] and "
            "absolute positions, its BEiT relative ones in each block, and nothing else"
        )
    rules = _OPENMMLAB if is_beit else _TORCH_ATTENTION + _OPENMMLAB
    backbone = checkpoint.backbone()
    model = backbone.state_dict()
    # Its BEiT stores what timm's computes anew.
    model |= {
        f"{name}.relative_position_index": module.relative_position_index
        for name, module in backbone.named_modules()
        if is_beit and name.endswith(".attn")
    }
    tensors = {f"backbone.{_renamed(name, rules)}": value for name, value in model.items()}
    # A head of its own would be one of another kind; mmengine does not look at the rest of `meta`.
    content = dataclasses.replace(checkpoint.content, num_classes=0, classes=(), maker="")
    about = _about(dataclasses.replace(checkpoint, content=content))
    meta = {ABOUT: json.dumps(about)}
    with path_once(path) as temporary:
        _save({"state_dict": _whole(tensors), "meta": meta}, temporary)
    options = {
        "img_size": arch.img_size,
        "patch_size": arch.patch_size,
        "embed_dims": arch.width,
        "num_layers": arch.depth,
        "num_heads": arch.num_heads,
        "mlp_ratio": arch.mlp_ratio,
        **({"qv_bias": arch.qkv_bias} if is_beit else {"qkv_bias": arch.qkv_bias}),
        **({} if is_beit else {"patch_bias": True}),
        "final_norm": True,
        "norm_cfg": {"type": "LN", "eps": arch.norm_eps},
    }
    note = f"as {'BEiT' if is_beit else 'VisionTransformer'} of mmsegmentation with {options}"
    classes = checkpoint.content.num_classes
    return f"{note}\nhead of {classes} classes left out" if classes else note


_EXPORTS: dict[str, Callable[[Checkpoint, Path], str]] = {
    "timm": _timm,
    "safetensors": _safetensors,
    "openmmlab": _openmmlab,
}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, target in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", target, name)
    return name


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return, as in our own layout, all that no tensor shows."""
    content = checkpoint.content
    provenance = {
        "parent": checkpoint.info.digest,
        "source": checkpoint.info.source,
        "classes": list(content.classes),
        "classifier": content.maker,
        "origin": [dataclasses.asdict(stage) for stage in content.origin],
    }
    head = (content.arch, content.method, content.pool, content.num_classes)
    return _described(*head, provenance) | _reading(content)


def _described(
    arch: Arch, method: str, pool: str, num_classes: int, provenance: dict[str, Any]
) -> dict[str, Any]:
    return {
        "micl_bench": 1,
        "arch": dataclasses.asdict(arch),
        "method": method,
        "pool": pool,
        "num_classes": num_classes,
        "provenance": provenance,
    }


def _reading(content: Converted) -> dict[str, Any]:
    return {
        "positions": dataclasses.asdict(content.positions),
        "mean": list(content.mean),
        "std": list(content.std),
        # An assumption stays one: training or conversion does not prove it.
        "guesses": list(content.guesses),
    }


def _whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy each tensor into a storage of its own, of its own size."""
    return {name: value.detach().clone().contiguous() for name, value in state.items()}
