"""MAE (He et al. 2022): pre-trained with its decoder or without, fine-tuned, linearly probed."""

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import sincos_positions
from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import WIDTHS, assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, first_key, keep, tensors_of
from micl_bench.checkpoints._timm_names import num_classes_of, table_beside_averages

POSITIONS = PositionRule(antialias=False)
ENCODER = (keep(r"cls_token|pos_embed|(patch_embed\.proj|blocks\.\d+|norm)\..+"),)
_RULES = (
    *ENCODER,
    keep(r"(head|fc_norm)\.(weight|bias)"),
    drop(r"mask_token|decoder_.+", "decoder"),
    drop(r"head\.\d\..+", "head of a linear probe behind BatchNorm"),
)
_TABLE_TOLERANCE = 1e-4


def recognise(content: dict[str, Any]) -> bool:
    """MAE's decoder; or its options beside a head; or its published encoder.

    The encoder alone has timm's names. It is MAE's where `model` is all that the file holds, and its
    positions are the fixed sin-cos table that MAE trains with. A published fine-tuned file, without
    options, cannot be told from timm's.
    """
    tensors = tensors_of(content, first_key(content, "model"))
    if _has_decoder(tensors):
        return True
    if has_head(tensors):
        return {"nb_classes", "global_pool"} <= options(content).keys()
    return content.keys() == {"model"} and is_fixed_encoder(tensors)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The encoder under its own names, which are timm's; a decoder is left out.

    The tensors lie under `model` or, as in safetensors files, in the file itself; `ema` reads the
    averaged weights that trainers after MAE's save as `model_ema`.

    Raises:
        InputError: unknown tensors; shapes that are no ViT's; no such branch.
    """
    key, name, beside = table_beside_averages(content, ("model",), branch)
    state, fates = account(content, _RULES, key=key, layout="mae", beside=beside)
    num_classes = num_classes_of(state)
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        state=state,
        method=_method(content, num_classes),
        # Fine-tuned with `global_pool`, the norm is behind the pooling and called `fc_norm`.
        pool="avg" if "fc_norm.weight" in state else "token",
        num_classes=num_classes,
        fates=fates,
        branch=name,
        positions=POSITIONS,
        guesses=assumed(sizes, arch, widths=WIDTHS),
        proven=_has_decoder(tensors_of(content, key)) or "nb_classes" in options(content),
    )


def _method(content: dict[str, Any], num_classes: int) -> str:
    """A fine-tuned file may have begun with any method's: what it began with is in the options."""
    start = str(options(content).get("finetune") or "").rpartition("/")[2].lower()
    if "nb_classes" in options(content) and not start.startswith("mae"):
        return ""
    return "MAE, fine-tuned" if num_classes else "MAE"


def _has_decoder(tensors: dict[str, Tensor]) -> bool:
    return {
        "decoder_embed.weight",
        "decoder_pos_embed",
        "mask_token",
        "cls_token",
    } <= tensors.keys()


def has_head(tensors: dict[str, Tensor]) -> bool:
    """Whether there is a classifier, behind a BatchNorm or not."""
    return any(name.startswith("head.") for name in tensors)


def options(content: dict[str, Any]) -> dict[str, Any]:
    """What the run was called with, where the file tells."""
    found = content.get("args")
    return vars(found) if isinstance(found, Namespace) else {}


def is_fixed_encoder(tensors: dict[str, Tensor]) -> bool:
    """Whether these are all of timm's names, and the positions MAE's table, a zero row for [CLS]."""
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
