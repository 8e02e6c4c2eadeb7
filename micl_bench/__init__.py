"""MiCL-Bench: pre-train ViTs by masked image contrastive learning, and benchmark any ViT."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from micl_bench.checkpoints import load_backbone as load_backbone
    from micl_bench.checkpoints import load_classifier as load_classifier

__version__ = "0.1.0"

__all__ = ["__version__", "load_backbone", "load_classifier"]


def __getattr__(name: str) -> Any:
    # On first use: importing the package, as `micl-bench --help` does, must not import torch.
    if name in ("load_backbone", "load_classifier"):
        from micl_bench import checkpoints

        return getattr(checkpoints, name)
    raise AttributeError(f"module 'micl_bench' has no attribute {name!r}")
