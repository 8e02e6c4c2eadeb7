"""MAE (He et al. 2022): pre-trained with its decoder or without, fine-tuned, linearly probed."""

from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import PositionRule, sincos_positions
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS
from micl_bench.checkpoints._metadata import options_of
from micl_bench.checkpoints._network import beside_averages, convert_network
from micl_bench.checkpoints._rules import OTHER, drop, first_key, keep, tensors_of

POSITIONS = PositionRule(antialias=False)
ENCODER = (keep(r"cls_token|pos_embed|(patch_embed\.proj|blocks\.\d+|norm)\..+"),)
_RULES = (
    *ENCODER,
    keep(r"(head|fc_norm)\.(weight|bias)"),
    drop(r"mask_token|decoder_.+", "decoder"),
    drop(r"head\.\d\..+", "head of a linear probe behind BatchNorm"),
)
_DECODER = {"decoder_embed.weight", "decoder_pos_embed", "mask_token", "cls_token"}
_TABLE_TOLERANCE = 1e-4


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there is MAE's decoder, a head beside its options, or its published encoder.

    The encoder alone has timm's names. It is MAE's where `model` is all that the file holds, and its
    positions are the fixed sin-cos table that MAE trains with. A published fine-tuned file, without
    options, looks like one of timm's.
    """
    tensors = tensors_of(content, first_key(content, "model"))
    if tensors.keys() >= _DECODER:
        return True
    if has_head(tensors):
        return {"nb_classes", "global_pool"} <= options_of(content, "args").keys()
    return content.keys() == {"model"} and is_fixed_encoder(tensors)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the encoder, whose names are timm's, without its decoder.

    The tensors lie under `model` or, as in safetensors files, in the file itself; `ema` reads the
    averaged weights that trainers after MAE's save as `model_ema`.
    """
    networks = beside_averages(content, "model")
    options = options_of(content, "args")
    is_tuned = "nb_classes" in options
    # Fine-tuning may have begun with any method's file, whose name is in the options.
    start = str(options.get("finetune") or "").rpartition("/")[2].lower()
    names = {name for network in networks for name in network.names(content)}
    method = "MAE, fine-tuned" if "head.weight" in names else "MAE"
    return convert_network(
        content,
        _RULES,
        networks,
        layout="mae",
        arch=arch,
        branch=branch,
        beside={"model": OTHER, "model_ema": OTHER},
        widths=WIDTHS,
        method="" if is_tuned and not start.startswith("mae") else method,
        positions=POSITIONS,
        proven=is_tuned or names >= _DECODER,
    )


def has_head(tensors: dict[str, Tensor]) -> bool:
    """Return whether there is a classifier, behind a BatchNorm or not."""
    return any(name.startswith("head.") for name in tensors)


def is_fixed_encoder(tensors: dict[str, Tensor]) -> bool:
    """Return whether all names are timm's, and positions are MAE's table with a zero row for [CLS]."""
    positions = tensors.get("pos_embed")
    if positions is None or positions.ndim != 3 or not {"cls_token", "norm.weight"} <= set(tensors):
        return False
    if not all(rule.pattern.fullmatch(name) for name in tensors for rule in ENCODER):
        return False
    rows, width = positions.shape[1:]
    grid = round((rows - 1) ** 0.5)
    if grid * grid != rows - 1 or width % 4:
        return False
    expected_LD = torch.cat([torch.zeros(1, width), sincos_positions(grid, width)])
    return torch.allclose(positions[0].float(), expected_LD, atol=_TABLE_TOLERANCE)
