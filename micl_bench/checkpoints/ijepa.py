"""I-JEPA (Assran et al. 2023): an encoder without a class token, its target and a predictor."""

from typing import Any

from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import WIDTHS, assumed, infer_arch
from micl_bench.checkpoints._rules import account, tensors_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen

_BRANCHES = ["target_encoder", "encoder"]
_BESIDE = {
    "encoder": "the encoder, another branch",
    "target_encoder": "the target encoder, another branch",
    "predictor": "predictor",
}


def recognise(content: dict[str, Any]) -> bool:
    """An encoder beside a predictor."""
    return bool(tensors_of(content, "predictor")) and bool(_branches(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The target encoder, which the authors evaluate; `branch`: `target_encoder` or `encoder`.

    timm's filter has nothing to convert here but a prefix, and reads `encoder` alone. Positions
    are interpolated bicubically; the method's own function takes its first row for a class token's,
    which these models do not have, so the rule is that of transformers' I-JEPA.

    Raises:
        InputError: unknown tensors, another branch, or no ViT.
    """
    name = chosen(branch, _branches(content), "target_encoder")
    state, fates = account(
        content, PLAIN, layout="ijepa", key=name, prefix=r"module\.", beside=_BESIDE
    )
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        guesses=assumed(sizes, arch, widths=WIDTHS),
        state=state,
        method="I-JEPA",
        pool="avg",
        num_classes=0,
        fates=fates,
        positions=PositionRule(antialias=False),
        branch=name,
    )


def _branches(content: dict[str, Any]) -> list[str]:
    return [name for name in _BRANCHES if tensors_of(content, name)]
