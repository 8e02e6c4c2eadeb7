"""SimCLR (arXiv:2002.05709) on a ViT: contrast two augmented crops of an image, among all of the batch.

Crops, probabilities and strengths of changes, projector and loss are those of the paper and of the
authors' code (google-research/simclr), but for `SimCLR.deviations`. The paper trains ResNets; that the
method works on a ViT, with AdamW and the patch projection frozen at random, is reported by MoCo v3's
authors (arXiv:2104.02057).

Shapes: N images of all processes, n of this one, V = 2 crops, D width, B = 2 * N crops.
"""

import dataclasses
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, view_features
from micl_bench.data.own_crops import Crop
from micl_bench.data.photometric import Photometric
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._batch_norm import BatchNorm
from micl_bench.objectives._contrast import NUMBERS, CollapseWatch, health_of, numbers_of
from micl_bench.objectives._crops import whole_crops
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.distributed import gather_rows, rank
from micl_bench.runtime.values import Amount, Count, Fraction, Positive, Probability, Within


class SimCLR(Objective):
    """Contrast two crops of an image that differ in place, size and colours (arXiv:2002.05709)."""

    name: ClassVar[str] = "SimCLR"
    numbers: ClassVar[tuple[str, ...]] = NUMBERS
    """Mean cosine between the projections of crops of one image, and of different images."""
    deviations: ClassVar[tuple[str, ...]] = (
        "The network is a ViT, trained with AdamW; the paper has ResNets and LARS.",
        "Blur has 23 pixels at any size, reflected at a crop's edges; the authors' code has a tenth of "
        "the side, and black beyond the edges.",
        "Contrast and saturation change as torchvision's do: about the mean grey, and towards grey; the "
        "authors' TensorFlow changes contrast about each channel's mean, and saturation in HSV.",
        "Crops are resampled by an antialiased bicubic filter; the authors' is bicubic alone.",
        "Random crops are torchvision's, of ten tries; the authors have TensorFlow's, of a hundred.",
    )
    couples_images: ClassVar[bool] = True

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the paper on ImageNet."""

        temperature: Positive = 0.1
        """The authors' code has 0.1 on ImageNet and 0.5 on CIFAR-10."""
        crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
        """Share of the image's area in a crop (section 3)."""
        flip: bool = True
        """Mirror half of the crops; wrong where left and right carry meaning, as in digits."""
        strength: Annotated[float, Within(0, 2.5)] = 1.0
        """Strength s of colour jitter: brightness, contrast and saturation 0.8 s, hue 0.2 s, for 0.8 of
        the crops (appendix A)."""
        grey: Probability = 0.2
        """Probability that a crop loses its colours (appendix A)."""
        blur: Probability = 0.5
        """Probability of a blur (appendix A); none on CIFAR-10 (appendix B.9)."""
        hidden_width: Amount = 0
        """Width of the projector's hidden layer; 0 for the backbone's, as in the authors' code."""
        width: Count = 128
        """Width in which crops are compared (section 4.2)."""
        frozen_patches: bool = False
        """Keep the patch projection as it is at the start (MoCo v3, section 4.2, for ViTs)."""

    config: Config

    def summary(self) -> str:
        """The smallest crop and the strength of colour jitter."""
        return f"crops from {self.config.crop_scale[0]:g}, jitter {self.config.strength:g}"

    def wants(self, arch: Arch) -> Patches:
        """Two whole crops."""
        config, s = self.config, self.config.strength
        photometric = Photometric(
            jitter=0.8,
            brightness=0.8 * s,
            contrast=0.8 * s,
            saturation=0.8 * s,
            hue=0.2 * s,
            grey=config.grey,
            blur=config.blur,
        )
        crop = Crop(scale=config.crop_scale, flip=config.flip, photometric=photometric)
        return whole_crops(arch, (crop, crop))

    def comparisons(self, plan: TrainingPlan) -> str:
        """Words on the number of crops among which each one's partner must be found."""
        return f"each crop among {2 * plan.batch_size - 1}"

    def added(self, vit: VisionTransformer) -> nn.Module:
        """The projector: linear, batch norm, ReLU, linear, batch norm without shift, as in the authors'
        code; weights of standard deviation 0.01."""
        if self.config.frozen_patches:
            vit.patch_embed.requires_grad_(False)
        hidden, width = self.config.hidden_width or vit.embed_dim, self.config.width
        into, out = (
            nn.Linear(vit.embed_dim, hidden, bias=False),
            nn.Linear(hidden, width, bias=False),
        )
        for linear in (into, out):
            nn.init.normal_(linear.weight, std=0.01)
        added = nn.Module()
        added.projector = nn.Sequential(
            into, BatchNorm(hidden), nn.ReLU(), out, BatchNorm(width, bias=False)
        )
        return added

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Project [CLS] of each crop; rows_NVD. Both crops of all images are one batch to its norms."""
        class_NVD = view_features(vit, seen.visible_NMP, seen.keep_NVK)
        rows_BD: Tensor = added.get_submodule("projector")(class_NVD.flatten(0, 1))
        return rows_BD.unflatten(0, class_NVD.shape[:2])

    def loss(self, rows: Tensor) -> Output:
        """This process's part of the loss: its crops among those of all processes, with gradient."""
        first, all_NVD = rank() * len(rows), gather_rows(rows)
        loss = nt_xent_of_rows(rows, all_NVD, first=first, temperature=self.config.temperature)
        return Output(loss=loss, numbers=numbers_of(all_NVD))

    def health(self, rows: Tensor) -> dict[str, float]:
        """Alignment, and mean cosines between crops of one image and of different images, by name."""
        return health_of(rows)

    def watch(self, plan: TrainingPlan) -> CollapseWatch:
        """Make the watch that warns of a collapse: chance is one crop of all but the one itself."""
        return CollapseWatch(
            num_images=2 * plan.batch_size - 1,
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )


def nt_xent_of_rows(rows_nVD: Tensor, all_NVD: Tensor, *, first: int, temperature: float) -> Tensor:
    """NT-Xent (equation 1 and algorithm 1 of the paper) of n among the N images, a scalar: the mean over
    their crops i, with partner j, of

        -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)),  s the cosine, k all crops of all images.

    The loss of all N is the mean of this over equal parts, which is how processes share it. In fp32
    (fp64 stays fp64) whatever the autocast.

    Args:
        rows_nVD: rows `first` to `first + n` of `all_NVD`; V = 2.
    """
    with torch.autocast(rows_nVD.device.type, enabled=False):
        wide = torch.promote_types(rows_nVD.dtype, torch.float32)
        unit_bD = F.normalize(rows_nVD.to(wide), dim=-1).flatten(0, 1)
        unit_BD = F.normalize(all_NVD.to(wide), dim=-1).flatten(0, 1)
        own_b = torch.arange(2 * first, 2 * first + len(unit_bD), device=unit_bD.device)
        logits_bB = unit_bD @ unit_BD.T / temperature
        logits_bB = logits_bB.scatter(1, own_b.unsqueeze(1), float("-inf"))
        # Crops of an image stand side by side: 2 i and 2 i + 1.
        return F.cross_entropy(logits_bB, own_b ^ 1)


OBJECTIVE = SimCLR
