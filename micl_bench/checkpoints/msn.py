"""MSN (Assran et al. 2022): an encoder, its target and prototypes."""

from typing import Any

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS
from micl_bench.checkpoints._network import PLAIN, convert_network, tables
from micl_bench.checkpoints._rules import OTHER, drop

_BRANCHES = ("target_encoder", "encoder")
_RULES = (*PLAIN, drop(r"fc\..+", "projection head"), drop(r"pred\..+", "prediction head"))
_BESIDE = {**dict.fromkeys(_BRANCHES, OTHER), "prototypes": "prototypes"}


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there are encoders beside prototypes; I-JEPA's stand beside a predictor."""
    return "prototypes" in content and bool(tables(content, *_BRANCHES))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the target encoder, which the authors evaluate, or the `encoder` for that `branch`.

    Positions are interpolated bicubically by the ratio of the sides.
    """
    return convert_network(
        content,
        _RULES,
        tables(content, *_BRANCHES),
        layout="msn",
        arch=arch,
        branch=branch,
        beside=_BESIDE,
        widths=WIDTHS,
        method="MSN",
        pool="token",
        positions=PositionRule(antialias=False),
    )
