"""timm's Vision Transformers, and how to call them: build, encode visible patches, positions."""

from micl_bench.backbone.arch import Arch, Pool, Vit
from micl_bench.backbone.encode import (
    class_or_mean,
    embed_patches,
    encode_patches,
    encode_tokens,
    full_precision,
    normalised,
    run_blocks,
    view_features,
)
from micl_bench.backbone.init import init_mae_, init_mae_layers_, sincos_positions
from micl_bench.backbone.names import arch_names, fits, named_arch, timm_vit
from micl_bench.backbone.positions import PositionRule, resample_positions

__all__ = [
    "Arch",
    "Pool",
    "PositionRule",
    "Vit",
    "arch_names",
    "class_or_mean",
    "embed_patches",
    "encode_patches",
    "encode_tokens",
    "fits",
    "full_precision",
    "init_mae_",
    "init_mae_layers_",
    "named_arch",
    "normalised",
    "resample_positions",
    "run_blocks",
    "sincos_positions",
    "timm_vit",
    "view_features",
]
