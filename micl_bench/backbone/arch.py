"""Architectures: the sizes of a ViT, and timm's model of them."""

import dataclasses
import functools
from typing import Annotated, Any, Literal

import timm
from msgspec import Meta
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.beit import Beit
from timm.models.eva import Eva

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.validate import Line

Vit = VisionTransformer | Beit | Eva
"""timm's models of a ViT: `Beit` has relative positions, `Eva` rotary ones."""

# Any number: `init_values` only says that there are scales; a checkpoint brings their values.
_LAYER_SCALE = 1e-5

_LARGEST = 1 << 20
Count = Annotated[int, Meta(ge=0, le=_LARGEST, description="a whole number from 0 to 1,048,576")]
Side = Annotated[int, Meta(ge=1, le=_LARGEST, description="a whole number from 1 to 1,048,576")]
"""Sizes in a file lie within bounds in which a model can be built."""

Pool = Literal["token", "avg"]
"""A head reads [CLS] after the norm, or the mean of the patches, normalised after it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arch:
    """The sizes of a ViT, and the parts on which methods differ."""

    name: Line
    img_size: Count
    """Side of the square input in pixels."""
    patch_size: Side
    width: Count
    depth: Count
    num_heads: Count
    mlp_ratio: Annotated[float, Meta(gt=0, lt=_LARGEST, description="a number above 0")] = 4.0
    class_token: bool = True
    num_registers: Count = 0
    layer_scale: bool = False
    qkv_bias: bool = True
    """Biases; beside `relative_positions` of queries and values alone, as BEiT's keys have none."""
    patch_positions_only: bool = False
    """Absolute positions have no rows for [CLS] and registers."""
    absolute_positions: bool = True
    relative_positions: Literal["", "block", "shared"] = ""
    """Biases of attention by offset (BEiT): none, one table per block, one table for all."""
    norm_eps: Annotated[float, Meta(ge=0, lt=1, description="a number from 0 to below 1")] = 1e-6
    timm_name: Line = ""
    """A model of timm with parts that sizes do not show (rotary positions, gated MLPs)."""

    def __post_init__(self) -> None:
        if self.img_size % self.patch_size:
            nearest = max(1, self.img_size // self.patch_size) * self.patch_size
            raise InputError(
                f"img_size {self.img_size} is no multiple of patch_size {self.patch_size}; nearest: "
                f"{nearest}"
            )

    @property
    def num_patches(self) -> int:
        """Return L, the patches of a square input."""
        return (self.img_size // self.patch_size) ** 2

    @property
    def num_prefix_tokens(self) -> int:
        """Return the number of tokens in front of the patches: [CLS] and registers."""
        return int(self.class_token) + self.num_registers

    @property
    def is_plain(self) -> bool:
        """Return whether it has [CLS] and absolute positions, as MiCL pre-trains, and nothing else."""
        return self == Arch(
            name=self.name,
            img_size=self.img_size,
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
        )

    def build(
        self, *, num_classes: int = 0, drop_path: float = 0.0, pool: Pool = "token"
    ) -> VisionTransformer:
        """Return a plain ViT of timm with timm's own initialisation; others need `build_any`.

        Args:
            num_classes: outputs of the head; 0 for no head.
            pool: input of the head: `token` ([CLS] after the norm) or `avg` (patches, own norm).

        Raises:
            InputError: the architecture is not timm's `VisionTransformer`.
        """
        model = self.build_any(num_classes=num_classes, drop_path=drop_path, pool=pool)
        if not isinstance(model, VisionTransformer):
            raise InputError(f"{self.name} is no plain ViT; MiCL trains plain ones")
        return model

    def build_any(
        self, *, num_classes: int = 0, drop_path: float = 0.0, pool: Pool = "token"
    ) -> Vit:
        """Return timm's model; without a head its `norm` is the final norm, whatever `pool`."""
        # Without a head the pooling is never used, but timm wants one that fits the tokens.
        pooling = (pool if num_classes else "token") if self.class_token else "avg"
        pooled_norm = bool(num_classes) and pooling == "avg"
        if self.timm_name:
            model: Any = timm.create_model(
                self.timm_name,
                img_size=self.img_size,
                num_classes=num_classes,
                drop_path_rate=drop_path,
                global_pool=pooling,
                **_norms(self.timm_name, pooled_norm),
            )
            assert isinstance(model, Vit)
            return model
        sizes: dict[str, Any] = {
            "img_size": self.img_size,
            "patch_size": self.patch_size,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "num_classes": num_classes,
            "drop_path_rate": drop_path,
            "global_pool": pooling,
            "init_values": _LAYER_SCALE if self.layer_scale else None,
            "norm_layer": functools.partial(LayerNorm, eps=self.norm_eps),
        }
        if self.relative_positions:
            return Beit(
                **sizes,
                use_abs_pos_emb=self.absolute_positions,
                use_rel_pos_bias=self.relative_positions == "block",
                use_shared_rel_pos_bias=self.relative_positions == "shared",
                use_fc_norm=pooled_norm,
            )
        return VisionTransformer(
            **sizes,
            class_token=self.class_token,
            reg_tokens=self.num_registers,
            no_embed_class=self.patch_positions_only,
            fc_norm=pooled_norm,
        )


def _norms(timm_name: str, pooled_norm: bool) -> dict[str, Any]:
    """Return the options that put the last norm of timm's model behind the pooling, or before it."""
    if timm.models.is_model_in_modules(timm_name, ("vision_transformer", "deit")):
        return {"fc_norm": pooled_norm}
    if timm.models.is_model_in_modules(timm_name, "beit"):
        return {"use_fc_norm": pooled_norm}
    # By default `Eva` has the one or the other; some of its models have neither.
    moved = {"use_post_transformer_norm": False} if pooled_norm else {}
    return {"use_fc_norm": pooled_norm, **moved}
