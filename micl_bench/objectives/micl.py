"""MiCL: masked image contrastive learning (arXiv:2411.09858; the same method as OCL, ICML 2025)."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, view_features
from micl_bench.data.visible import Patches, Seen
from micl_bench.losses import micl_loss, micl_loss_of_rows
from micl_bench.objectives._bound import require_size
from micl_bench.objectives._contrast import NUMBERS, CollapseWatch, health_of, numbers_of
from micl_bench.objectives._objective import Objective, ObjectiveConfig, disjoint_views
from micl_bench.objectives._output import Output
from micl_bench.patches import gather_patches
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.distributed import gather_rows, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import LARGEST, NotNegative, Positive, Within
from micl_bench.views import sample_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast(Output):
    """The loss, and the [CLS] features of all images that are contrasted: those of other processes too
    where negatives are global."""

    features_NVD: Tensor


class MiCL(Objective):
    """Contrast random subsets of an image's patches that share none (arXiv:2411.09858).

    Example:
        output = MiCL(MiCL.Config(mask_ratio=0.9))(vit, images_NCHW)
        output.loss.backward()
    """

    name: ClassVar[str] = "MiCL"
    numbers: ClassVar[tuple[str, ...]] = NUMBERS

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the authors' code."""

        num_views: Annotated[int, Within(2, LARGEST)] = 2
        mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.9
        """Share of patches that no view sees."""
        kappa: NotNegative = 1 / 64
        temperature: Positive = 0.07
        negatives: Literal["device", "global"] = "device"
        """`device`: the other images of the same process (the authors' code); `global`: those of
        all processes, gradient included, so that the result does not depend on their number."""

    config: Config

    @property
    def kappa(self) -> float:
        """The configuration's."""
        return self.config.kappa

    def settings(self) -> dict[str, Any]:
        """The values alone: fingerprints of MiCL's records are older than other objectives."""
        return to_dict(self.config) if type(self) is MiCL else super().settings()

    def summary(self) -> str:
        """The mask ratio."""
        return f"mask ratio {self.config.mask_ratio}"

    def wants(self, arch: Arch) -> Patches:
        """V random views of K patches, which share none.

        Raises:
            InputError: there is no [CLS], or there are too few patches.
        """
        config = self.config
        self.require_tokens(arch)
        return disjoint_views(arch, num_views=config.num_views, mask_ratio=config.mask_ratio)

    def sees_in_full(self, arch: Arch) -> str:
        """Words on the patches of each view, and on those that none sees."""
        wants = self.wants(arch)
        V, K, L, p = wants.num_views, wants.per_view, wants.of, wants.patch_size
        return (
            f"each of {V} views sees {K} of {L} patches of {p} x {p} pixels, none sees the other "
            f"{L - V * K}"
        )

    def contrasted(self, plan: TrainingPlan) -> int:
        """Number of images among which one must be found: N of the logits' N x N."""
        return plan.batch_size if self.config.negatives == "global" else plan.share

    def require(self, plan: TrainingPlan) -> None:
        """Raise an InputError where an image has no other one to be contrasted with."""
        if self.contrasted(plan) < 2:
            raise InputError(
                f"each of {plan.processes} processes has {plan.share} image per step and negatives "
                "come from its own device: there is nothing to contrast; use fewer processes, a larger "
                "batch_size or objective.negatives=global"
            )

    def comparisons(self, plan: TrainingPlan) -> str:
        """Words on the number of images among which each one must be found."""
        return f"each among {self.contrasted(plan)}"

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute [CLS] of each view, features_NVD, in fp32 whatever the autocast."""
        return view_features(vit, seen.visible_NMP, seen.keep_NVK)

    def loss(self, rows: Tensor) -> Contrast:
        """This process's part of the loss from its own [CLS] features, features_nVD; the mean of its
        gradient over processes is the gradient of the batch.

        With `negatives="global"` every process must call this with equally many images.
        """
        kappa, temperature = self.config.kappa, self.config.temperature
        if self.config.negatives == "device":
            all_NVD = rows
            loss = micl_loss(rows, kappa=kappa, temperature=temperature)
        else:
            first, all_NVD = rank() * len(rows), gather_rows(rows)
            loss = micl_loss_of_rows(
                rows, all_NVD, first=first, kappa=kappa, temperature=temperature
            )
        return Contrast(loss=loss, numbers=numbers_of(all_NVD), features_NVD=all_NVD)

    def health(self, rows: Tensor) -> dict[str, float]:
        """Alignment, and mean cosines between views of one image and of different images, by name."""
        return health_of(rows)

    def watch(self, plan: TrainingPlan) -> CollapseWatch:
        """Make the watch that warns of a collapse."""
        return CollapseWatch(
            num_images=self.contrasted(plan),
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )

    def __call__(
        self, backbone: VisionTransformer, images_NCHW: Tensor, keep_NVK: Tensor | None = None
    ) -> Contrast:
        """The loss of a batch of normalised images_NCHW, contrasted as one process's; without
        `keep_NVK` the views are drawn from torch's own generator.

        Raises:
            InputError: the images have another size than the backbone's positions.
        """
        require_size(backbone, images_NCHW)
        if keep_NVK is None:
            shape = (images_NCHW.shape[0], backbone.patch_embed.num_patches)
            noise_NL = torch.rand(shape, device=images_NCHW.device)
            keep_NVK = sample_views(
                noise_NL, num_views=self.config.num_views, mask_ratio=self.config.mask_ratio
            )
        patch_size = backbone.patch_embed.proj.kernel_size[0]
        visible_NMP = gather_patches(images_NCHW, keep_NVK, patch_size)
        return self.loss(self.encode(backbone, nn.Module(), Seen(visible_NMP, keep_NVK)))


OBJECTIVE = MiCL
