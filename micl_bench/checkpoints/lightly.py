"""lightly's `MaskedVisionTransformerTIMM`, alone or within a module or Lightning checkpoint."""

import re
from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import PLAIN, Network, convert_network
from micl_bench.checkpoints._rules import drop, first_key, keep, tensors_of

_MARK = re.compile(r"(?:(.+)\.)?vit\.(?:patch_embed|blocks)\..+")
# lightly's own benchmarks evaluate networks of these names, in this order.
_DEFAULTS = ("teacher_backbone", "backbone")
_RULES = (
    *PLAIN,
    keep(r"reg_token|blocks\.\d+\.ls[12]\.gamma"),
    keep(r"fc_norm\.(weight|bias)", r"norm.\1", reason="timm's name with average pooling"),
    drop(r"head\.(weight|bias)", "timm's classifier, which pre-training does not use"),
    drop(r"(.+\.)?mask_token", "mask token"),
    drop(r".+\.vit\..+", "another branch"),
    drop(r"\w*(head|decoder\w*|predictor|prediction\w*|prototypes)\..+", "head or decoder"),
    drop(r"\w*(criterion|loss)\..+", "state of the loss"),
    drop(r"\w*(classifier|probe)\w*\..+", "classifier that watches pre-training"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Return whether timm's ViT lies under `vit`, beside the mask token of lightly's wrapper."""
    return bool(_networks(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the teacher or the only backbone; `branch` names the module that holds `vit`.

    Positions are resampled as lightly does by default: by timm, antialiased.
    """
    return convert_network(
        content,
        _RULES,
        _networks(content),
        layout="lightly",
        arch=arch,
        branch=branch,
        is_open=True,
        guesses=("pixels",),
    )


def _networks(content: dict[str, Any]) -> list[Network]:
    key = first_key(content, "state_dict", "model")
    names = tensors_of(content, key).keys()
    found = {match[1] or "" for name in names if (match := _MARK.fullmatch(name))}
    networks = [
        Network(name, key, rf"{re.escape(name)}\.vit\." if name else r"vit\.")
        for name in sorted(found)
        if (f"{name}.mask_token" if name else "mask_token") in names
    ]
    order = {name: place for place, name in enumerate(_DEFAULTS)}
    return sorted(networks, key=lambda network: order.get(network.branch, len(order)))
