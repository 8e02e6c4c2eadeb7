"""solo-learn's Lightning checkpoints: a backbone, its momentum copy, their heads and losses."""

import dataclasses
from typing import Any

from torch import Tensor

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._metadata import options_of
from micl_bench.checkpoints._network import PLAIN, Network, convert_network, width_of
from micl_bench.checkpoints._rules import drop, keep, tensors_of
from micl_bench.runtime.errors import InputError

_BRANCHES = ("backbone", "momentum_backbone")
_RULES = (
    *PLAIN,
    keep(r"fc_norm\.(weight|bias)", r"norm.\1", reason="timm's name with average pooling"),
    drop(r"(momentum_)?backbone\..+", "another branch"),
    drop(r"(momentum_)?classifier\..+", "classifier that watches pre-training"),
    drop(r"(momentum_)?\w*(projector|predictor|head|prototypes|decoder)\w*\b.*", "head or decoder"),
    drop(r"mask_token|decoder_.+", "decoder"),
    drop(r"\w*(queue|loss|center|memory|bank)\w*(\..+)?", "state of the loss"),
)
_NAMES = {
    "barlow_twins": "Barlow Twins", "byol": "BYOL", "deepclusterv2": "DeepCluster v2", "dino": "DINO",
    "mae": "MAE", "mocov2plus": "MoCo v2+", "mocov3": "MoCo v3", "nnclr": "NNCLR", "ressl": "ReSSL",
    "simclr": "SimCLR", "simsiam": "SimSiam", "supcon": "SupCon", "swav": "SwAV", "vicreg": "VICReg",
    "wmse": "W-MSE",
}  # fmt: skip
# Its ViTs have timm's heads, except for these two methods, whose authors' code it follows.
_HEADS = {
    "mae": {192: 12, 384: 12, 768: 12, 1024: 16, 1280: 16},
    "mocov3": {192: 12, 384: 12, 768: 12, 1024: 12},
}
_USUAL = {192: 3, 384: 6, 768: 12, 1024: 16}


def recognise(content: dict[str, Any]) -> bool:
    """Return whether a ViT is the `backbone`, beside a momentum copy or the method's name."""
    names = tensors_of(content, "state_dict")
    found = [one for one in _BRANCHES if f"{one}.blocks.0.norm1.weight" in names]
    if "meta" in content or not found:
        return False
    is_watched = "classifier.weight" in names or "momentum_backbone" in found
    return is_watched or bool(_method(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the backbone, which its authors evaluate, or `momentum_backbone` for that `branch`.

    Heads are those of the method's ViT of that width in its code.
    """
    networks = [Network(name, "state_dict", rf"{name}\.") for name in _BRANCHES]
    networks = [one for one in networks if one.has_blocks(content)]
    if not networks:
        raise InputError("the file holds no ViT called `backbone`; let the format be recognised")
    method = _method(content)

    def known_heads(state: dict[str, Tensor]) -> str | None:
        widths = _HEADS.get(method, _USUAL) if method else {}
        heads = widths.get(width_of(state))
        return f"heads={heads}" if heads else None

    converted = convert_network(
        content,
        _RULES,
        networks,
        layout="solo_learn",
        arch=arch,
        branch=branch,
        known_arch=known_heads,
        guesses=("pixels", "positions"),
        method=_NAMES.get(method, method),
    )
    return converted if len(networks) > 1 else dataclasses.replace(converted, branch="")


def _method(content: dict[str, Any]) -> str:
    """Return the method's name in the run's options; empty where there are none."""
    options = options_of(content, "hyper_parameters")
    methods = (table.get("method") for table in (options, options_of(options, "cfg")))
    return next((one for one in methods if isinstance(one, str)), "")
