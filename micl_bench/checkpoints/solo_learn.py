"""solo-learn's Lightning checkpoints: a backbone, its momentum copy, and what is trained with them."""

import re
from typing import Any

from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, keep, tensors_of
from micl_bench.checkpoints._statements import options_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen
from micl_bench.runtime.errors import InputError

_BRANCHES = {
    "backbone": r"backbone\.",
    "momentum_backbone": r"momentum_backbone\.",
}
_MARK = re.compile(r"((?:momentum_)?backbone)\.blocks\.0\.norm1\.weight")
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
    """A ViT as `backbone` in a Lightning checkpoint, beside a momentum copy or the method's name."""
    names = set(tensors_of(content, "state_dict"))
    found = {match[1] for name in names if (match := _MARK.fullmatch(name))}
    if "meta" in content or not found:
        return False
    watched = "classifier.weight" in names or any(one.startswith("momentum_") for one in found)
    return watched or bool(_method(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The backbone, which its authors evaluate; `branch`: `backbone` or `momentum_backbone`.

    Heads are those of the method's ViT of that width in its code.

    Raises:
        InputError: unknown tensors, another branch, or no ViT.
    """
    names = set(tensors_of(content, "state_dict"))
    known = [
        one
        for one, prefix in _BRANCHES.items()
        if any(re.match(rf"{prefix}blocks\.", name) for name in names)
    ]
    if not known:
        raise InputError("the file holds no ViT called `backbone`; let the format be recognised")
    name, method = chosen(branch, known, "backbone"), _method(content)
    state, fates = account(
        content, _RULES, layout="solo_learn", key="state_dict", prefix=_BRANCHES[name]
    )
    heads = 0
    if method and "patch_embed.proj.weight" in state:
        heads = _HEADS.get(method, _USUAL).get(state["patch_embed.proj.weight"].shape[0], 0)
    wanted = f"heads={heads}" if heads and arch is None else arch
    sizes = infer_arch(state, arch=wanted)
    guesses: tuple[Guess, ...] = (*assumed(sizes, wanted), "pixels", "positions")
    return Converted(
        arch=sizes,
        state=state,
        method=_NAMES.get(method, method),
        pool="token" if "cls_token" in state else "avg",
        num_classes=0,
        fates=fates,
        branch=name if len(known) > 1 else "",
        guesses=guesses,
    )


def _method(content: dict[str, Any]) -> str:
    """As the run's options call it; empty where there are none."""
    options = options_of(content, "hyper_parameters")
    for table in (options, options_of(options, "cfg")):
        if isinstance(table.get("method"), str):
            return str(table["method"])
    return ""
