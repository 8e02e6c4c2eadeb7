"""DINO: self-distillation with no labels (Caron et al. 2021, arXiv:2104.14294; the authors' code is
github.com/facebookresearch/dino, Apache-2.0).

A student sees two large, global crops of an image and several small, local ones; a teacher, its moving
average, sees the global ones. For each pair of a teacher's crop and another one of the student's, the
student's distribution over O outputs is brought to the teacher's, which is centred and sharpened.

Facts of the code: the head's last layer has directions of length 1 as weights and no bias; it does not
learn at first. The positions of a local crop are those of the input size, resampled. The teacher is
evaluated.

The head's last layer is linear. So the mean of the teacher's outputs over a batch, which moves the
centre, is that layer's output for the mean of its inputs. Rows hold these few numbers, not O of each
crop, and an image's error, in which no other image plays a part.

As published, but for:
- The backbone starts with MAE's initialisation (Xavier) and has fixed sin-cos positions, as all here; in
  the code normal, 0.02, and positions are learnt.
- Gradients are clipped by their common norm (`optim.clip_norm`); in the code parameter by parameter.
- The schedule of the rate ends at 0; in the code at 1e-6. The momentum is one step ahead: that of the
  steps that are done, the last of which is at 1. The teacher's temperature rises from step to step; in
  the code from epoch to epoch.
- While the last layer does not learn, its gradient is 0; in the code it has none. So AdamW counts these
  steps, whose decay acts on lengths that are taken out again.
- Paths of the student's blocks are dropped by image and crop, by draws of (seed, epoch, index).
- Blur is a Gaussian of 23 pixels; in the code Pillow's, three box filters that come close to it.

Shapes: N images, G global crops, S local ones, C = G + S crops, L patches of a crop, D width, B the
bottleneck's width, O outputs, R residual branches.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, view_features
from micl_bench.backbone.drop_path import branch_rates, draw_paths, give_paths, take_paths
from micl_bench.data.own_crops import Crop
from micl_bench.data.photometric import Photometric
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._collapse import TargetsAlike, cosine_of_others
from micl_bench.objectives._crops import local_crops, local_features, whole_crops
from micl_bench.objectives._dino import Head, dino_errors, dino_targets
from micl_bench.objectives._momentum import cosine_momentum, follow_, twin_of
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.distributed import mean
from micl_bench.runtime.values import (
    LARGEST,
    Amount,
    Count,
    Fraction,
    Positive,
    Probability,
    Within,
)

_GLOBAL = 2


class DINO(Objective):
    """Bring the distributions of many crops to those of a teacher's large ones (arXiv:2104.14294)."""

    name: ClassVar[str] = "DINO"
    numbers: ClassVar[tuple[str, ...]] = ("target_cosine", "target_entropy")
    """Mean cosine between what the teacher's last layer gets for different images of a process; mean
    entropy of its distributions, from 0 to log(O)."""
    deviations: ClassVar[tuple[str, ...]] = (
        "the backbone starts with MAE's initialisation and has fixed sin-cos positions, not learnt ones",
        "gradients are clipped by their common norm, not parameter by parameter",
        "the schedule of the rate ends at 0, not at 1e-6; the momentum is one step ahead; the teacher's "
        "temperature rises from step to step, not from epoch to epoch",
        "while the last layer does not learn, AdamW counts the steps, and its decay acts",
        "blur is a Gaussian of 23 pixels, not Pillow's three box filters",
    )
    backbone: ClassVar[str] = "added.teacher"
    in_files: ClassVar[Mapping[str, str]] = {
        r"student\.head\.(.+)": r"head.\1",
        r"teacher\.backbone\.(.+)": r"teacher.\1",
        r"teacher\.head\.(.+)": r"teacher_head.\1",
        r"dino_loss\.center": "centre_1O",
    }

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the code's `main_dino.py`. Its schedules in
        epochs are shares of the run here."""

        local_crops: Amount = 8
        """`--local_crops_number`."""
        local_size: Annotated[int, Within(1, LARGEST)] = 96
        """Pixels of a side of a local crop (section 3.1)."""
        global_scale: tuple[Fraction, Fraction] = (0.4, 1.0)
        """Share of the image's area in a global crop: `--global_crops_scale`."""
        local_scale: tuple[Fraction, Fraction] = (0.05, 0.4)
        """The same of a local crop: `--local_crops_scale`."""
        flip: bool = True
        """Mirror half of the crops; wrong where left and right carry meaning, as in digits."""
        strength: Annotated[float, Within(0, 2.5)] = 1.0
        """Strength s of colour jitter: brightness and contrast 0.4 s, saturation 0.2 s, hue 0.1 s, for
        0.8 of the crops."""
        grey: Probability = 0.2
        """Probability that a crop loses its colours."""
        blur: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)
        """Probabilities of a blur: of the first global crop, of the second one, of a local one."""
        solarise: Probability = 0.2
        """Probability that the second global crop is solarised."""
        outputs: Annotated[int, Within(2, LARGEST)] = 65536
        """Of the head: `--out_dim`."""
        hidden_width: Count = 2048
        """Of the head's two hidden layers."""
        bottleneck_width: Annotated[int, Within(2, LARGEST)] = 256
        """Of what the head's last layer gets, at length 1."""
        learnt_lengths: bool = False
        """Learn the lengths of the last layer's weights: `--norm_last_layer false`, which the README has
        for long runs of ViT-S."""
        frozen_share: Probability = 0.01
        """Share of the run in which the last layer does not learn: `--freeze_last_layer 1` of 100
        epochs."""
        student_temperature: Positive = 0.1
        """`student_temp`."""
        first_temperature: Positive = 0.04
        """Of the teacher, at first: `--warmup_teacher_temp`."""
        teacher_temperature: Positive = 0.04
        """Of the teacher, after its warm-up: `--teacher_temp`; the paper (section 3.1) has 0.07."""
        temperature_share: Probability = 0.0
        """Share of the run in which that is reached: `--warmup_teacher_temp_epochs`, by default 0; the
        README has 30 epochs of 300 where it has 0.07."""
        momentum: Probability = 0.996
        """Of the teacher, at first; 1 at the end: `--momentum_teacher`."""
        centre_momentum: Probability = 0.9
        """Of the centre: `center_momentum`."""
        drop_path: Annotated[float, Within(least=0, below=1)] = 0.1
        """Probability that a branch of the student's last block is left out; it grows linearly from 0 at
        the first one: `--drop_path_rate`."""

        def temperature(self, progress: float) -> float:
            """The teacher's once this share of the steps is done: it rises evenly."""
            start, end = self.first_temperature, self.teacher_temperature
            done = progress / self.temperature_share if progress < self.temperature_share else 1
            return start + (end - start) * done

    config: Config

    def summary(self) -> str:
        """The outputs, and the teacher's temperature."""
        return f"{self.config.outputs} outputs, teacher at {self.config.teacher_temperature:g}"

    def wants(self, arch: Arch) -> Patches:
        """Two whole crops, and the local ones.

        Raises:
            InputError: there is no [CLS], or no crop of patches has the local size.
        """
        config, s = self.config, self.config.strength
        self.require_tokens(arch)
        plain = Photometric(
            jitter=0.8,
            brightness=0.4 * s,
            contrast=0.4 * s,
            saturation=0.2 * s,
            hue=0.1 * s,
            grey=config.grey,
        )
        first, second, local = (dataclasses.replace(plain, blur=blur) for blur in config.blur)
        second = dataclasses.replace(second, solarise=config.solarise)
        crop = functools.partial(Crop, flip=config.flip)
        small = crop(scale=config.local_scale, photometric=local)
        patches = whole_crops(
            arch,
            [crop(scale=config.global_scale, photometric=one) for one in (first, second)],
        )
        if config.local_crops:
            few = local_crops(arch, [small] * config.local_crops, size=config.local_size)
            patches = dataclasses.replace(patches, local=few)
        dropped_R = branch_rates(arch.depth, config.drop_path)
        crops = _GLOBAL + config.local_crops
        return dataclasses.replace(
            patches, more=functools.partial(_draw, crops=crops, dropped_R=dropped_R)
        )

    def sees(self, arch: Arch) -> str:
        """Words on what student and teacher see."""
        return f"the student sees {self.wants(arch)}, the teacher the first {_GLOBAL}"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The crops, each whole."""
        places = enumerate(keep_NVK.unbind(1), start=1)
        numbers = range(1, self.config.local_crops + 1)
        return {f"global {v}": keep_NK for v, keep_NK in places} | {
            f"local {s}": keep_NVK[:, 0] for s in numbers
        }

    def added(self, vit: VisionTransformer) -> "StudentAndTeacher":
        """Make the student's head, the teacher and its centre; the student's paths can be dropped from
        here on."""
        added = StudentAndTeacher(vit, self.config)
        take_paths(vit, self.config.drop_path)
        return added

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute of each image its error, the entropy of its targets, and the mean over global crops of
        what the teacher's last layer gets: rows_N(2+B) in fp32."""
        assert isinstance(added, StudentAndTeacher)
        paths_NCR = seen.drawn["paths_NCR"]
        give_paths(vit, paths_NCR[:, :_GLOBAL].flatten(0, 1))
        features_NCD = view_features(vit, seen.visible_NMP, seen.keep_NVK)
        if seen.local is not None:
            give_paths(vit, paths_NCR[:, _GLOBAL:].flatten(0, 1))
            local_NSD = local_features(vit, seen.local)
            features_NCD = torch.cat([features_NCD, local_NSD], dim=1)
        student_NCO = added.head.last_layer(added.head(features_NCD), added.learns)
        with torch.no_grad():
            seen_NGD = view_features(added.teacher, seen.visible_NMP, seen.keep_NVK)
            unit_NGB = added.teacher_head(seen_NGD)
            target_NGO = dino_targets(
                added.teacher_head.last_layer(unit_NGB),
                added.centre_1O,
                temperature=added.temperature,
            )
            entropy_N1 = torch.special.entr(target_NGO).sum(-1).mean(1, keepdim=True)
        error_N = dino_errors(student_NCO, target_NGO, temperature=self.config.student_temperature)
        return torch.cat([error_N.unsqueeze(1), entropy_N1, unit_NGB.mean(1)], dim=1)

    def loss(self, rows: Tensor) -> Output:
        """The mean error of this process's images; its mean over processes is that of the batch."""
        cosine, entropy = cosine_of_others(rows[:, 2:]), rows[:, 1].detach().mean()
        numbers = {"target_cosine": cosine, "target_entropy": entropy}
        return Output(loss=rows[:, 0].mean(), numbers=numbers)

    def after_step(
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Move the centre, by the teacher as it was in the step; let the teacher follow; set the
        temperature, and whether the last layer learns."""
        assert isinstance(added, StudentAndTeacher)
        config = self.config
        mean_1B = mean(rows[:, 2:].mean(0, keepdim=True))
        batch_1O = added.teacher_head.last_layer(mean_1B)
        added.centre_1O.lerp_(batch_1O, 1 - config.centre_momentum)
        momentum = cosine_momentum(config.momentum, progress)
        follow_(added.teacher, vit, momentum=momentum)
        follow_(added.teacher_head, added.head, momentum=momentum)
        added.temperature.fill_(config.temperature(progress))
        added.learns.fill_(progress >= config.frozen_share)

    def health(self, rows: Tensor) -> dict[str, float]:
        """The mean error, and the numbers of each step."""
        output = self.loss(rows)
        numbers = {"loss": output.loss, **output.numbers}
        return {f"held_out_{name}": value.item() for name, value in numbers.items()}

    def watch(self, plan: TrainingPlan) -> TargetsAlike:
        """Make the watch that warns of a collapse."""
        return TargetsAlike(plan)


class StudentAndTeacher(nn.Module):
    """What there is beside the student's ViT: its head, its teacher, and what moves after each step."""

    def __init__(self, vit: VisionTransformer, config: DINO.Config) -> None:
        super().__init__()
        self.head = Head(
            vit.embed_dim,
            hidden=config.hidden_width,
            bottleneck=config.bottleneck_width,
            outputs=config.outputs,
            learnt_lengths=config.learnt_lengths,
        )
        self.teacher = twin_of(vit)
        self.teacher_head = twin_of(self.head)
        self.centre_1O: Tensor
        self.temperature: Tensor
        self.learns: Tensor
        self.register_buffer("centre_1O", torch.zeros(1, config.outputs))
        self.register_buffer("temperature", torch.tensor(config.temperature(0)))
        self.register_buffer("learns", torch.tensor(float(config.frozen_share == 0)))


def _draw(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    *,
    crops: int,
    dropped_R: NDArray[np.floating],
) -> dict[str, Tensor]:
    weights = draw_paths(seed, epoch, index_N, np.tile(dropped_R, crops))
    return {"paths_NCR": weights.reshape(len(index_N), crops, len(dropped_R))}


OBJECTIVE = DINO
