"""MoCo v3 (Chen, Xie, He 2021, arXiv:2104.02057): contrast with the keys of a momentum encoder.

Of two crops of an image the encoder makes queries q, by a projector and a predictor, and its moving
average makes keys k, by its own projector. A query of one crop must find the key of the other among
those of all images:

    loss = CE(q1, k2) + CE(q2, k1),  each times 2 t, of logits cos(q_i, k_j) / t

Values are those of the commands for ViTs in CONFIG.md of the authors' code, and of the defaults in its
main_moco.py (github.com/facebookresearch/moco-v3; facts alone are taken from it). Facts of the code:

- Both heads have no biases in their linear layers, batch norm after each, ReLU between. The last norm
  has neither factor nor shift. Each crop is a batch of its own to them, over all processes.
- The momentum encoder's norms normalise by their own batch too, and keep their own running statistics,
  which are not averaged. It moves before each step, by a momentum of that step, which is after the one
  before: as here.
- The patch projection stays as it was drawn. Probes and fine-tuning read the encoder, not its average.

`MoCoV3.deviations` names what differs.

Shapes: N images of all processes, n of this one, V = 2 crops, D width.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, full_precision, view_features
from micl_bench.data.own_crops import Crop
from micl_bench.data.photometric import Photometric
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._batch_norm import BatchNorm
from micl_bench.objectives._contrast import NUMBERS, CollapseWatch
from micl_bench.objectives._crops import whole_crops
from micl_bench.objectives._momentum import cosine_momentum, follow_, twin_of
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.distributed import gather_rows, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import LARGEST, Count, Fraction, Positive, Probability, Within

_TABLE = r"(?:(?:state_dict|model)\.)?"
_HEADS = {
    "base_encoder.head": "projector",
    "predictor": "predictor",
    "momentum_encoder.head": "momentum_projector",
}
"""Names in the authors' files, and here; layers have the same numbers."""
_OF_A_LAYER = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "mean_D",
    "running_var": "variance_D",
}


class MoCoV3(Objective):
    """Find the key of an image's other crop, by a momentum encoder (arXiv:2104.02057).

    Example:
        bound = MoCoV3().from_checkpoint("vit-b-300ep.pth.tar")
        bound(crops_BCHW).loss.backward()
    """

    name: ClassVar[str] = "MoCo v3"
    numbers: ClassVar[tuple[str, ...]] = NUMBERS
    """Mean cosine between the query of a crop and the key of the other: of one image, of different."""
    deviations: ClassVar[tuple[str, ...]] = (
        "Initial weights are MAE's, as in all runs here; the authors draw queries, keys and values as "
        "three matrices, and [CLS] with a deviation of 1e-6.",
        "[CLS], biases and norms have no weight decay, as in all runs here; in the authors' code they "
        "have.",
        "Blur is a Gaussian of 23 pixels, reflected at a crop's edges; the authors' is Pillow's, three "
        "box filters.",
    )
    in_files: ClassVar[Mapping[str, str]] = {
        **{
            rf"{_TABLE}{re.escape(theirs)}\.(\d+)\.{stored}": rf"{ours}.\1.{name}"
            for theirs, ours in _HEADS.items()
            for stored, name in _OF_A_LAYER.items()
        },
        rf"{_TABLE}momentum_encoder\.((?!head\.).+)": r"momentum_encoder.\1",
    }
    couples_images: ClassVar[bool] = True

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the authors' commands for ViTs."""

        temperature: Positive = 0.2
        """`--moco-t=.2` (CONFIG.md); t in algorithm 1."""
        momentum: Probability = 0.99
        """Of the momentum encoder, at first; 1 at the end along a half cosine: `--moco-m-cos`, whose
        start is the default of `--moco-m`."""
        crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
        """Share of the image's area in a crop: the default of `--crop-min`, which ViTs have."""
        flip: bool = True
        """Mirror half of the crops; wrong where left and right carry meaning, as in digits."""
        strength: Annotated[float, Within(0, 5)] = 1.0
        """Strength s of colour jitter: brightness and contrast 0.4 s, saturation 0.2 s, hue 0.1 s, for
        0.8 of the crops (main_moco.py, after BYOL, arXiv:2006.07733)."""
        grey: Probability = 0.2
        """Probability that a crop loses its colours (main_moco.py)."""
        blur: tuple[Probability, Probability] = (1.0, 0.1)
        """Probability of a blur of the first and of the second crop (main_moco.py)."""
        solarise: tuple[Probability, Probability] = (0.0, 0.2)
        """Probability that the first and the second crop are solarised (main_moco.py)."""
        hidden_width: Annotated[int, Within(1, LARGEST)] = 4096
        """Of the heads' hidden layers, two in the projector and one in the predictor: the default of
        `--moco-mlp-dim`."""
        width: Count = 256
        """In which queries and keys are compared: the default of `--moco-dim`."""
        frozen_patches: bool = True
        """Keep the patch projection as it is at the start: `--stop-grad-conv1`."""

    config: Config

    def summary(self) -> str:
        """The smallest crop and the strength of colour jitter."""
        return f"crops from {self.config.crop_scale[0]:g}, jitter {self.config.strength:g}"

    def wants(self, arch: Arch) -> Patches:
        """Two whole crops, of which the first is blurred more and the second solarised more.

        Raises:
            InputError: there is no [CLS].
        """
        config, s = self.config, self.config.strength
        self.require_tokens(arch)
        crops = [
            Crop(
                scale=config.crop_scale,
                flip=config.flip,
                photometric=Photometric(
                    jitter=0.8,
                    brightness=0.4 * s,
                    contrast=0.4 * s,
                    saturation=0.2 * s,
                    hue=0.1 * s,
                    grey=config.grey,
                    blur=blur,
                    solarise=solarise,
                ),
            )
            for blur, solarise in zip(config.blur, config.solarise, strict=True)
        ]
        return whole_crops(arch, crops)

    def require(self, plan: TrainingPlan) -> None:
        """Raise an InputError where a batch is one image, which has no other to be told from."""
        if plan.batch_size < 2:
            raise InputError(
                "batch_size is 1: there is no other image to contrast with; use 2 or more"
            )

    def comparisons(self, plan: TrainingPlan) -> str:
        """Words on the number of keys among which each query's own must be found."""
        return f"each crop among the other crops of {plan.batch_size} images"

    def added(self, vit: VisionTransformer) -> "Heads":
        """Make the heads and the momentum encoder; freeze the patch projection where it is to be."""
        if self.config.frozen_patches:
            vit.patch_embed.requires_grad_(False)
        return Heads(vit, self.config.hidden_width, self.config.width)

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute the query and the key of each crop, rows_NV2D in fp32."""
        assert isinstance(added, Heads)
        class_NVD = view_features(vit, seen.visible_NMP, seen.keep_NVK)
        query_VND = [added.predictor(added.projector(one)) for one in class_NVD.unbind(1)]
        with torch.no_grad():
            class_NVD = view_features(added.momentum_encoder, seen.visible_NMP, seen.keep_NVK)
            key_VND = [added.momentum_projector(one) for one in class_NVD.unbind(1)]
        return torch.stack([torch.stack(query_VND, 1), torch.stack(key_VND, 1)], 2)

    def loss(self, rows: Tensor) -> Output:
        """This process's part of the loss: its queries among the keys of all, without their gradient."""
        first, query_nVD = rank() * len(rows), rows[:, :, 0]
        key_NVD = gather_rows(rows[:, :, 1].detach())
        loss = moco_v3_loss(query_nVD, key_NVD, first=first, temperature=self.config.temperature)
        cosines = crossed_cosines(query_nVD.detach(), key_NVD, first=first)
        return Output(loss=loss, numbers=dict(zip(self.numbers, cosines, strict=True)))

    def after_step(
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Let the momentum encoder and its projector follow."""
        assert isinstance(added, Heads)
        momentum = cosine_momentum(self.config.momentum, progress)
        follow_(added.momentum_encoder, vit, momentum=momentum)
        follow_(added.momentum_projector, added.projector, momentum=momentum)

    def sized_as(self, own: dict[str, Tensor]) -> "MoCoV3":
        """The same with the widths of the heads in a file."""
        hidden, out = (own.get(f"predictor.{layer}.weight") for layer in (0, 3))
        if hidden is None or out is None:
            return self
        sized = dataclasses.replace(self.config, hidden_width=len(hidden), width=len(out))
        return MoCoV3(sized)

    def fitted(self, own: dict[str, Tensor], vit: VisionTransformer) -> dict[str, Tensor]:
        """Give the momentum encoder the backbone's positions, which are fixed in both."""
        name = "momentum_encoder.pos_embed"
        assert vit.pos_embed is not None
        return {**own, name: vit.pos_embed.detach()} if name in own else own

    def health(self, rows: Tensor) -> dict[str, float]:
        """Alignment of queries with their keys, and mean cosines with those of one image and of
        different images, by name."""
        positive, negative = crossed_cosines(rows[:, :, 0], rows[:, :, 1], first=0)
        return {
            # |q - k|^2 of unit vectors.
            "alignment": 2 - 2 * positive.item(),
            "held_out_positive_cosine": positive.item(),
            "held_out_negative_cosine": negative.item(),
        }

    def watch(self, plan: TrainingPlan) -> CollapseWatch:
        """Make the watch that warns of a collapse: chance is one key of all, in both orders."""
        return CollapseWatch(
            num_images=plan.batch_size,
            scale=4 * self.config.temperature,
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )


def moco_v3_loss(query_nVD: Tensor, key_NVD: Tensor, *, first: int, temperature: float) -> Tensor:
    """The loss (algorithm 1 of the paper) of n among the N images, a scalar: the sum over
    both orders of crops v, w of

        2 t * mean over i of -log(exp(s_ii / t) / sum over j of exp(s_ij / t))

    where s_ij is the cosine between the query of crop v of image i and the key of crop w of image j. The
    loss of all N is the mean of this over equal parts, which is how processes share it. In fp32 (fp64
    stays fp64) whatever the autocast.

    Args:
        query_nVD: of images `first` to `first + n`; V = 2.
    """
    with full_precision(query_nVD.device):
        own_n = torch.arange(first, first + len(query_nVD), device=query_nVD.device)
        query_VnD, other_VND = _unit(query_nVD), _unit(key_NVD).flip(0)
        logits_VnN = query_VnD @ other_VND.mT / temperature
        one, two = (F.cross_entropy(logits_nN, own_n) for logits_nN in logits_VnN)
        return 2 * temperature * (one + two)


def crossed_cosines(query_nVD: Tensor, key_NVD: Tensor, *, first: int) -> tuple[Tensor, Tensor]:
    """The mean cosine between queries and keys of the other crop: of one image, and of different images,
    which is not a number where there is one image. Arguments as `moco_v3_loss` takes them."""
    (n, V, _), N = query_nVD.shape, len(key_NVD)
    query_VnD, other_VND = _unit(query_nVD), _unit(key_NVD).flip(0)
    positive = (query_VnD * other_VND[:, first : first + n]).sum()
    everything = (query_VnD.sum(1) * other_VND.sum(1)).sum()
    return positive / (V * n), (everything - positive) / (V * n * (N - 1))


class Heads(nn.Module):
    """What there is beside the encoder: its projector and predictor, and its moving average."""

    def __init__(self, vit: VisionTransformer, hidden: int, out: int) -> None:
        super().__init__()
        self.projector = _mlp(vit.embed_dim, hidden, hidden, out)
        self.predictor = _mlp(out, hidden, out)
        self.momentum_encoder = twin_of(vit)
        self.momentum_projector = twin_of(self.projector)


def _mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, each with batch norm, ReLU between them."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(widths):
        layers += [nn.Linear(width, following, bias=False), BatchNorm(following), nn.ReLU()]
    layers[-2:] = [BatchNorm(widths[-1], scale=False, bias=False)]
    return nn.Sequential(*layers)


def _unit(rows_NVD: Tensor) -> Tensor:
    wide = torch.promote_types(rows_NVD.dtype, torch.float32)
    return F.normalize(rows_NVD.to(wide), dim=-1).transpose(0, 1)


OBJECTIVE = MoCoV3
