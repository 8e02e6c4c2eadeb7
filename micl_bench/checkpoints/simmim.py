"""SimMIM (Xie et al. 2022): BEiT's ViT under `encoder`, beside a decoder of one layer."""

from typing import Any

from micl_bench.checkpoints._beit_like import convert_beit, is_beit_like
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import Network, one_table
from micl_bench.checkpoints._rules import drop, tensors_of

# Entries of the code's checkpoints that BEiT's do not have; a fine-tuned ViT is BEiT's otherwise.
_OWN_ENTRIES = {"max_accuracy", "config"}


def recognise(content: dict[str, Any]) -> bool:
    """Return whether BEiT's blocks are under `encoder` with a mask token, or beside SimMIM's entries."""
    network = _network(content)
    names = tensors_of(content, network.key).keys()
    if {"encoder.mask_token", "decoder.0.weight"} <= names:
        return is_beit_like(network.names(content))
    return is_beit_like(names) and bool(_OWN_ENTRIES & content.keys())


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the encoder, or the fine-tuned ViT with its head; Swin's are not read."""
    return convert_beit(
        content,
        (drop(r"decoder\..+", "decoder"),),
        [_network(content)],
        layout="simmim",
        arch=arch,
        branch=branch,
        method="SimMIM",
    )


def _network(content: dict[str, Any]) -> Network:
    return one_table(content, "model", "state_dict", prefix=r"(encoder\.)?")
