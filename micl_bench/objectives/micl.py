"""MiCL: masked image contrastive learning (arXiv:2411.09858; the same method as OCL, ICML 2025)."""

import dataclasses

import torch
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import encode_visible
from micl_bench.errors import InputError
from micl_bench.losses import micl_loss
from micl_bench.views import sample_views


@dataclasses.dataclass(frozen=True)
class Output:
    """What a step gives: the scalar to minimise, and the [CLS] features it was computed from."""

    loss: Tensor
    features_NVD: Tensor


class MiCL:
    """Contrast disjoint random subsets of an image's patches.

    Example:
        output = MiCL(MiCL.Config(mask_ratio=0.9))(vit, images_NCHW)
        output.loss.backward()
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults are those of the authors' code."""

        num_views: int = 2
        mask_ratio: float = 0.9
        """Share of patches that no view sees."""
        kappa: float = 1 / 64
        temperature: float = 0.07
        negatives: str = "device"
        """`device`: the other images of the same process (the authors' code); `global`: those of
        all processes, gradient included, so that the result does not depend on their number."""

        def __post_init__(self) -> None:
            # Written so that not-a-number is refused too.
            if not (self.kappa >= 0 and self.temperature > 0):
                raise InputError(
                    f"kappa {self.kappa}, temperature {self.temperature}; needed: kappa >= 0, "
                    "temperature > 0"
                )
            if self.negatives not in ("device", "global"):
                raise InputError(f"negatives is {self.negatives!r}; allowed: device, global")

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def views(self, noise_NL: Tensor) -> Tensor:
        """keep_NVK for independent noise of every patch."""
        return sample_views(
            noise_NL, num_views=self.config.num_views, mask_ratio=self.config.mask_ratio
        )

    def __call__(
        self, backbone: VisionTransformer, images_NCHW: Tensor, keep_NVK: Tensor | None = None
    ) -> Output:
        """Loss of a batch; without `keep_NVK` the views are drawn from torch's own generator."""
        if keep_NVK is None:
            shape = (images_NCHW.shape[0], backbone.patch_embed.num_patches)
            keep_NVK = self.views(torch.rand(shape, device=images_NCHW.device))
        features_NVD = encode_visible(backbone, images_NCHW, keep_NVK)[:, :, 0]
        loss = micl_loss(features_NVD, kappa=self.config.kappa, temperature=self.config.temperature)
        return Output(loss, features_NVD)
