"""DINOv2 (Oquab et al. 2024), with and without registers (Darcet et al. 2024)."""

from typing import Any

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import PLAIN, convert_network, distilled_teacher
from micl_bench.checkpoints._rules import drop, keep

# Blocks of sharded training lie in chunks.
_BLOCK = r"blocks\.(?:\d+\.)?(\d+)\."
_END = r"(weight|bias)"
_RULES = (
    PLAIN[0],
    keep(r"register_tokens", "reg_token"),
    keep(rf"{_BLOCK}(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{_END}", r"blocks.\1.\2.\3"),
    keep(rf"{_BLOCK}(ls[12]\.gamma)", r"blocks.\1.\2"),
    keep(rf"{_BLOCK}mlp\.w12\.{_END}", r"blocks.\1.mlp.fc1.\2"),
    keep(rf"{_BLOCK}mlp\.w3\.{_END}", r"blocks.\1.mlp.fc2.\2"),
    drop(r"mask_token", "mask token"),
    drop(r"(dino|ibot)_head\..+", "projection head"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there are layer scale and a mask token, bare or in a table `teacher`."""
    names = distilled_teacher(content).names(content)
    scale = {"blocks.0.ls1.gamma", "blocks.0.0.ls1.gamma"}
    return names >= {"mask_token", "cls_token", "pos_embed"} and bool(names & scale)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert as timm's filter does: where there are registers, [CLS] gets its position added.

    Positions are interpolated as in the published models: with an offset of 0.1 and without
    antialiasing, or, with registers, antialiased and without offset.
    """
    network = distilled_teacher(content)
    names = network.names(content)
    registers = "register_tokens" in names
    # Gated MLPs: the published giant alone has them.
    giant = f"vit_giant_patch14{'_reg4' if registers else ''}_dinov2"
    is_gated = any(name.endswith("0.mlp.w12.weight") for name in names)
    return convert_network(
        content,
        _RULES,
        [network],
        layout="dinov2",
        arch=arch,
        branch=branch,
        known_arch=lambda state: giant if is_gated else None,
        widths=(384, 768, 1024, 1536),
        folds_class_position=True,
        method="DINOv2 with registers" if registers else "DINOv2",
        pool="token",
        positions=PositionRule(antialias=registers, offset=0.0 if registers else 0.1),
    )
