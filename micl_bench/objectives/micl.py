"""MiCL: masked image contrastive learning (arXiv:2411.09858; the same method as OCL, ICML 2025)."""

import dataclasses
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import view_features
from micl_bench.losses import micl_loss, micl_loss_of_rows
from micl_bench.patches import gather_patches
from micl_bench.runtime.distributed import gather_rows, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import LARGEST, NotNegative, Positive, Values, Within
from micl_bench.views import draw_views, sample_views


@dataclasses.dataclass(frozen=True)
class Output:
    """What a step gives: the scalar to minimise, and the [CLS] features of all images contrasted,
    those of other processes included where negatives are global."""

    loss: Tensor
    features_NVD: Tensor


class MiCL:
    """Contrast disjoint random subsets of an image's patches.

    Example:
        output = MiCL(MiCL.Config(mask_ratio=0.9))(vit, images_NCHW)
        output.loss.backward()
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Values):
        """Defaults are those of the authors' code."""

        num_views: Annotated[int, Within(2, LARGEST)] = 2
        mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.9
        """Share of patches that no view sees."""
        kappa: NotNegative = 1 / 64
        temperature: Positive = 0.07
        negatives: Literal["device", "global"] = "device"
        """`device`: the other images of the same process (the authors' code); `global`: those of
        all processes, gradient included, so that the result does not depend on their number."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def draw_views(
        self, seed: int, epoch: int, index_N: NDArray[np.integer], *, num_patches: int
    ) -> Tensor:
        """keep_NVK of images in one epoch, a function of (seed, epoch, index) alone."""
        return draw_views(
            seed,
            epoch,
            index_N,
            num_patches=num_patches,
            num_views=self.config.num_views,
            mask_ratio=self.config.mask_ratio,
        )

    def contrast(self, features_nVD: Tensor) -> Output:
        """This process's part of the loss from its own [CLS] features; the mean over processes is
        the loss of the batch, and its gradient that of the batch.

        With `negatives="global"` every process must call this with equally many images.
        """
        kappa, temperature = self.config.kappa, self.config.temperature
        if self.config.negatives == "device":
            loss = micl_loss(features_nVD, kappa=kappa, temperature=temperature)
            return Output(loss, features_nVD)
        first = rank() * len(features_nVD)
        all_NVD = gather_rows(features_nVD)
        loss = micl_loss_of_rows(
            features_nVD, all_NVD, first=first, kappa=kappa, temperature=temperature
        )
        return Output(loss, all_NVD)

    def __call__(
        self, backbone: VisionTransformer, images_NCHW: Tensor, keep_NVK: Tensor | None = None
    ) -> Output:
        """Loss of a batch; without `keep_NVK` the views are drawn from torch's own generator.

        Raises:
            InputError: images of another size than the backbone's positions.
        """
        height, width = backbone.patch_embed.img_size
        if images_NCHW.shape[2:] != (height, width):
            raise InputError(
                f"images are {tuple(images_NCHW.shape[2:])} pixels, the backbone has positions for "
                f"{(height, width)}; load it with img_size, or resize the images"
            )
        if keep_NVK is None:
            shape = (images_NCHW.shape[0], backbone.patch_embed.num_patches)
            noise_NL = torch.rand(shape, device=images_NCHW.device)
            keep_NVK = sample_views(
                noise_NL, num_views=self.config.num_views, mask_ratio=self.config.mask_ratio
            )
        patch_size = backbone.patch_embed.proj.kernel_size[0]
        visible_NMP = gather_patches(images_NCHW, keep_NVK, patch_size)
        features_NVD = view_features(backbone, visible_NMP, keep_NVK)
        return self.contrast(features_NVD)
