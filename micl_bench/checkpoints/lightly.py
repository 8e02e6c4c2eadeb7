"""lightly's `MaskedVisionTransformerTIMM`, alone or within a module or Lightning checkpoint."""

import re
from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, first_key, keep, tensors_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen

_MARK = re.compile(r"(?:(.+)\.)?vit\.(?:patch_embed|blocks)\..+")
# What lightly's own benchmarks call the network that they evaluate, in this order.
_DEFAULTS = ("teacher_backbone", "backbone")
_RULES = (
    *PLAIN,
    keep(r"reg_token|blocks\.\d+\.ls[12]\.gamma"),
    keep(r"fc_norm\.(weight|bias)", r"norm.\1", reason="timm's name with average pooling"),
    drop(r"head\.(weight|bias)", "timm's classifier, which pre-training does not use"),
    drop(r"(.+\.)?mask_token", "mask token"),
    drop(r".+\.vit\..+", "another branch"),
    drop(r"\w*(head|decoder|predictor|prediction\w*|prototypes)\..+", "head or decoder"),
    drop(r"\w*(criterion|loss)\..+", "state of the loss"),
    drop(r"\w*(classifier|probe)\w*\..+", "classifier that watches pre-training"),
)


def recognise(content: dict[str, Any]) -> bool:
    """timm's ViT under `vit` beside the mask token that lightly's wrapper always has."""
    return bool(_branches(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The teacher or the only backbone; `branch` is the name of the module that holds `vit`.

    Positions are resampled as lightly does by default: by timm, antialiased.

    Raises:
        InputError: unknown tensors, another branch, or none that is the default.
    """
    known = _branches(content)
    default = next((name for name in _DEFAULTS if name in known), "")
    name = chosen(branch, known, default)
    prefix = rf"{re.escape(name)}\.vit\." if name else r"vit\."
    key = first_key(content, "state_dict", "model")
    state, fates = account(content, _RULES, layout="lightly", key=key, prefix=prefix)
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        guesses=(*assumed(sizes, arch, is_open=True), "pixels"),
        state=state,
        method="",
        pool="token" if "cls_token" in state else "avg",
        num_classes=0,
        fates=fates,
        branch=name,
    )


def _branches(content: dict[str, Any]) -> list[str]:
    names = set(tensors_of(content, first_key(content, "state_dict", "model")))
    found = {match[1] or "" for name in names if (match := _MARK.fullmatch(name))}
    return [
        name for name in sorted(found) if (f"{name}.mask_token" if name else "mask_token") in names
    ]
