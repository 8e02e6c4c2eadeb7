"""MSN (Assran et al. 2022): an encoder, its target and prototypes."""

from typing import Any

from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import WIDTHS, assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, tensors_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen

_BRANCHES = ["target_encoder", "encoder"]
_RULES = (*PLAIN, drop(r"fc\..+", "projection head"), drop(r"pred\..+", "prediction head"))
_BESIDE = {
    "encoder": "the encoder, another branch",
    "target_encoder": "the target encoder, another branch",
    "prototypes": "prototypes",
}


def recognise(content: dict[str, Any]) -> bool:
    """Encoders beside prototypes; I-JEPA's stand beside a predictor."""
    return "prototypes" in content and bool(_branches(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The target encoder, which the authors evaluate; `branch`: `target_encoder` or `encoder`.

    Positions are interpolated bicubically by the ratio of the sides.

    Raises:
        InputError: unknown tensors (convolutional stems), another branch, or no ViT.
    """
    name = chosen(branch, _branches(content), "target_encoder")
    state, fates = account(
        content, _RULES, layout="msn", key=name, prefix=r"module\.", beside=_BESIDE
    )
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        guesses=assumed(sizes, arch, widths=WIDTHS),
        state=state,
        method="MSN",
        pool="token",
        num_classes=0,
        fates=fates,
        positions=PositionRule(antialias=False),
        branch=name,
    )


def _branches(content: dict[str, Any]) -> list[str]:
    return [name for name in _BRANCHES if tensors_of(content, name)]
