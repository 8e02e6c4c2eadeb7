"""Architectures: the sizes of a plain ViT, and timm's model of them."""

import dataclasses
from typing import Literal

from timm.models import VisionTransformer

from micl_bench.errors import InputError

Pool = Literal["token", "avg"]
"""What a head reads: [CLS] after the norm, or the mean of the patches, normalised after it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arch:
    """The sizes of a plain ViT with a [CLS] token and learned or fixed absolute positions."""

    name: str
    img_size: int
    """Side of the square input in pixels."""
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.img_size % self.patch_size:
            raise InputError(
                f"img_size {self.img_size} is no multiple of patch_size {self.patch_size}; nearest: "
                f"{self.img_size // self.patch_size * self.patch_size}"
            )

    @property
    def num_patches(self) -> int:
        """L: patches of a square input."""
        return (self.img_size // self.patch_size) ** 2

    def build(
        self,
        *,
        num_classes: int = 0,
        drop_path: float = 0.0,
        pool: Pool = "token",
    ) -> VisionTransformer:
        """A timm ViT with timm's own initialisation.

        Args:
            num_classes: 0 for no head.
            pool: what the head reads: `token` ([CLS] after the norm) or `avg` (patches, own norm).
        """
        return VisionTransformer(
            img_size=self.img_size,
            patch_size=self.patch_size,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            num_classes=num_classes,
            drop_path_rate=drop_path,
            global_pool=pool if num_classes else "token",
        )


_KNOWN = {
    arch.name: arch
    for arch in (
        # Small enough to pre-train and evaluate in minutes on two CPU cores.
        Arch(name="vit_demo_patch4_32", img_size=32, patch_size=4, width=128, depth=4, num_heads=4),
        Arch(
            name="vit_small_patch16_224",
            img_size=224,
            patch_size=16,
            width=384,
            depth=12,
            num_heads=6,
        ),
        Arch(
            name="vit_base_patch16_224",
            img_size=224,
            patch_size=16,
            width=768,
            depth=12,
            num_heads=12,
        ),
        Arch(
            name="vit_large_patch16_224",
            img_size=224,
            patch_size=16,
            width=1024,
            depth=24,
            num_heads=16,
        ),
        Arch(
            name="vit_huge_patch14_224",
            img_size=224,
            patch_size=14,
            width=1280,
            depth=32,
            num_heads=16,
        ),
    )
}


def arch_names() -> list[str]:
    """Names that `named_arch` knows; those of public models are timm's."""
    return list(_KNOWN)


def named_arch(name: str) -> Arch:
    """Look up an architecture.

    Raises:
        InputError: unknown name; the message lists the known ones.
    """
    if name not in _KNOWN:
        raise InputError(f"no architecture is called {name!r}; known: {', '.join(_KNOWN)}")
    return _KNOWN[name]
