"""The MiCL authors' code (arXiv:2411.09858): MAE's encoder without a decoder, with its run's state."""

from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS, assumed, infer_arch
from micl_bench.checkpoints._rules import account, first_key, refuse_branch, tensors_of
from micl_bench.checkpoints.mae import ENCODER, POSITIONS, has_head, is_fixed_encoder, options

_MODELS = "sae_vit_"
"""How the authors' code calls its networks."""


def recognise(content: dict[str, Any]) -> bool:
    """MAE's encoder and fixed positions beside the state of pre-training, but no decoder.

    MAE's own state has a decoder, its published encoder nothing beside `model`; a `mask_ratio`
    among the options, or an optimiser, tells that this was pre-training.
    """
    tensors = tensors_of(content, "model")
    trained = "mask_ratio" in options(content) or "optimizer" in content
    return trained and not has_head(tensors) and is_fixed_encoder(tensors)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Nothing to rename or to leave out but the state of training.

    Raises:
        InputError: unknown tensors; shapes that are no ViT's.
    """
    refuse_branch(branch)
    state, fates = account(content, ENCODER, key=first_key(content, "model"), layout="micl")
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        guesses=assumed(sizes, arch, widths=WIDTHS),
        # Other code after MAE's leaves out the decoder too.
        proven=str(options(content).get("model")).startswith(_MODELS),
        state=state,
        method="MiCL",
        pool="token",
        num_classes=0,
        fates=fates,
        positions=POSITIONS,
    )
