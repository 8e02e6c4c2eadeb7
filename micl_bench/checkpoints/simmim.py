"""SimMIM (Xie et al. 2022): BEiT's ViT under `encoder`, beside a decoder of one layer."""

import re
from typing import Any

from micl_bench.checkpoints._beit_like import convert_beit_like, is_beit_like
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._rules import drop, first_key, refuse_branch, tensors_of
from micl_bench.checkpoints._timm_names import num_classes_of

_PREFIX = r"encoder\."
_DROPPED = (drop(r"decoder\..+", "decoder"),)
# Entries of the code's checkpoints that BEiT's do not have; a fine-tuned ViT is BEiT's otherwise.
_OWN_ENTRIES = {"max_accuracy", "config"}


def recognise(content: dict[str, Any]) -> bool:
    """BEiT's blocks under `encoder` with a mask token, or beside the entries of SimMIM's code."""
    names = set(tensors_of(content, _key(content)))
    encoder = {re.sub(f"^{_PREFIX}", "", name) for name in names}
    if {"encoder.mask_token", "decoder.0.weight"} <= names:
        return is_beit_like(encoder)
    return is_beit_like(names) and bool(_OWN_ENTRIES & content.keys())


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The encoder, or the fine-tuned ViT with its head, through timm's filter for `Beit`.

    Tables of relative positions are resized as timm does.

    Raises:
        InputError: unknown tensors, or no ViT (Swin's are not read).
    """
    refuse_branch(branch)
    key = _key(content)
    tensors = {
        re.sub(f"^{_PREFIX}", "", name): tensor for name, tensor in tensors_of(content, key).items()
    }
    sizes, state, fates = convert_beit_like(
        content, tensors, arch=arch, layout="simmim", key=key, dropped=_DROPPED, prefix=_PREFIX
    )
    return Converted(
        arch=sizes,
        state=state,
        method="SimMIM",
        pool="token" if {"head.weight", "norm.weight"} <= state.keys() else "avg",
        num_classes=num_classes_of(state),
        fates=fates,
    )


def _key(content: dict[str, Any]) -> str:
    return first_key(content, "model", "state_dict")
