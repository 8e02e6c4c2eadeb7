"""I-JEPA (Assran et al. 2023): an encoder without a class token, its target and a predictor."""

from typing import Any

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS
from micl_bench.checkpoints._network import PLAIN, convert_network, tables
from micl_bench.checkpoints._rules import OTHER, tensors_of

_BRANCHES = ("target_encoder", "encoder")
_BESIDE = {**dict.fromkeys(_BRANCHES, OTHER), "predictor": "predictor"}


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there is an encoder beside a predictor."""
    return bool(tensors_of(content, "predictor")) and bool(tables(content, *_BRANCHES))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the target encoder, which the authors evaluate, or the `encoder` for that `branch`.

    Positions are interpolated bicubically; the method's own function takes its first row for a class
    token's, which these models do not have, so the rule is that of transformers' I-JEPA.
    """
    return convert_network(
        content,
        PLAIN,
        tables(content, *_BRANCHES),
        layout="ijepa",
        arch=arch,
        branch=branch,
        beside=_BESIDE,
        widths=WIDTHS,
        method="I-JEPA",
        pool="avg",
        positions=PositionRule(antialias=False),
    )
