"""The MiCL authors' code (arXiv:2411.09858): MAE's encoder without a decoder, with its run's state."""

from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS
from micl_bench.checkpoints._metadata import options_of
from micl_bench.checkpoints._network import convert_network, one_table
from micl_bench.checkpoints._rules import tensors_of
from micl_bench.checkpoints.mae import ENCODER, POSITIONS, has_head, is_fixed_encoder


def recognise(content: dict[str, Any]) -> bool:
    """Return whether MAE's encoder and fixed positions lie beside the state of pre-training, alone.

    MAE's own state has a decoder, its published encoder nothing beside `model`; a `mask_ratio`
    among the options, or an optimiser, is a sign of pre-training.
    """
    tensors = tensors_of(content, "model")
    is_trained = "mask_ratio" in options_of(content, "args") or "optimizer" in content
    return is_trained and not has_head(tensors) and is_fixed_encoder(tensors)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the encoder, whose names are timm's, without the state of training."""
    return convert_network(
        content,
        ENCODER,
        [one_table(content, "model")],
        layout="micl",
        arch=arch,
        branch=branch,
        widths=WIDTHS,
        method="MiCL",
        pool="token",
        positions=POSITIONS,
        # Other code after MAE's leaves out the decoder too; the authors' calls its networks so.
        proven=str(options_of(content, "args").get("model")).startswith("sae_vit_"),
    )
