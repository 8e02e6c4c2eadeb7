"""A pre-training method, as far as it is more than the backbone that it trains.

An objective is one file of this folder, or of a plug-in, that assigns `OBJECTIVE` a class. The training
loop knows nothing else of it.

Shapes: N images of one process, M visible patches of an image in all views, P values per patch, V views,
K patches per view.
"""

import abc
import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._bound import Bound, fill_own
from micl_bench.objectives._cost import flop_of, tokens_of
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Values
from micl_bench.runtime.wording import first_few
from micl_bench.views import draw_views, patches_per_view

Watch = Callable[[int, dict[str, float]], str]
"""Looks at the numbers of each step, in order; returns a warning for the user, or an empty string."""


class ObjectiveConfig(Values):
    """Base of an objective's configuration, a frozen dataclass: `objective=MiCL.Config(...)`."""

    objective: ClassVar[type["Objective"]]

    def build(self) -> "Objective":
        """Build the objective with these values."""
        return self.objective(self)


class Objective(abc.ABC):
    """One pre-training method. Everything but `wants`, `encode` and `loss` has a default.

    Example:
        class Toy(Objective):
            name = "toy"

            @dataclasses.dataclass(frozen=True, kw_only=True)
            class Config(ObjectiveConfig):
                strength: Positive = 1.0

        OBJECTIVE = Toy
    """

    name: ClassVar[str]
    """The method, as tables print it."""
    numbers: ClassVar[tuple[str, ...]] = ()
    """Names of the scalars in `Output.numbers`; each is a column of the run's metrics."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """What differs from the published method, a sentence each, which the record repeats."""
    backbone: ClassVar[str] = "vit"
    """The ViT that a run leaves and that is measured on the way: `vit`, which is trained, or a momentum
    twin by its name among the added modules, `added.teacher`."""
    class_token: ClassVar[bool] = True
    """The backbone has [CLS]; False for a method whose backbone has none (`NAME_nocls`)."""
    in_files: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Where files of the authors' code hold the modules of `added`: patterns of whole names
    (`TABLE.NAME` in a table of the file), and the names in `added`, as `re.Match.expand` takes them."""
    couples_images: ClassVar[bool] = False
    """In `encode` an image depends on others of its process, or of all: a head with batch norm. A run in
    micro-batches is refused."""
    Config: ClassVar[type[ObjectiveConfig]]

    def __init_subclass__(cls) -> None:
        if "Config" in vars(cls):
            cls.Config.objective = cls

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.Config()

    @property
    def kappa(self) -> float:
        """The kappa of the T-SP similarity in which views are compared (`losses.tsp_similarity`); 0 for
        the cosine, rescaled to 0 .. 1."""
        return 0.0

    def settings(self) -> dict[str, Any]:
        """The method's name and the values that the result depends on, for a run's fingerprint."""
        return {"method": self.name, **to_dict(self.config)}

    def summary(self) -> str:
        """A few words on the configuration for the protocol of the record, or an empty string."""
        return ""

    @abc.abstractmethod
    def wants(self, arch: Arch) -> Patches:
        """The patches of an image that a step takes; all of them, in one view, are a whole crop.

        Raises:
            InputError: the architecture has too few patches.
        """

    def require_tokens(self, arch: Arch) -> None:
        """Check that a backbone has [CLS], or has none, as the method needs it.

        Raises:
            InputError: it is the other way round; the message names the architecture to take.
        """
        if arch.class_token and not self.class_token:
            raise InputError(
                f"{self.name} trains backbones without [CLS]; set arch={arch.name}_nocls"
            )
        if self.class_token and not arch.class_token:
            plain = arch.name.removesuffix("_nocls")
            raise InputError(f"{self.name} needs [CLS], which {arch.name} lacks; set arch={plain}")

    def sees(self, arch: Arch) -> str:
        """Words in the plan on what a step takes of an image: `2 views of 12 of 64 patches`, or `16 of
        64 patches visible, the other 48 predicted`."""
        return str(self.wants(arch))

    def sees_in_full(self, arch: Arch) -> str:
        """The same above pictures, where there is room for more."""
        return self.sees(arch)

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The patches that pictures show beside an image, each part of it by its name (`view 1`,
        `visible`, `target 2`), in the order of the pictures.

        Args:
            keep_NVK, drawn: as in `Seen`.

        Returns:
            Indices (N, K) of one patch or more, K may differ between parts; where an image has fewer,
            it repeats some.
        """
        return {f"view {v}": keep_NK for v, keep_NK in enumerate(keep_NVK.unbind(1), start=1)}

    def require(self, plan: TrainingPlan) -> None:  # noqa: B027 - most methods take any size
        """Check that a run of this plan makes sense.

        Raises:
            InputError: it does not; the message says why.
        """

    def comparisons(self, plan: TrainingPlan) -> str:
        """Words in the plan on how the images of a batch meet, `each among 256`, or an empty string."""
        return ""

    def added(self, vit: VisionTransformer) -> nn.Module:
        """Make the modules that are trained or carried along with a backbone: a decoder, a head, a
        momentum twin, a queue. `encode` and `after_step` get them back, and their whole `state_dict`
        is saved and restored. The backbone is as training starts with it; torch's own generator
        starts at the recipe's seed."""
        return nn.Module()

    @abc.abstractmethod
    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute one row per image, of any shape, from which `loss` follows.

        A batch may be cut into parts, and a part may be encoded twice, first without gradient: no
        state changes here, and no image depends on another one. Where the class has `couples_images`, a
        batch is not cut, and a head may keep running statistics.

        Args:
            seen: the patches that `wants` draws, their pixels normalised.
        """

    @abc.abstractmethod
    def loss(self, rows: Tensor) -> Output:
        """This process's part of the loss, from the rows of all its images; the mean over processes is
        the loss of the batch. Modules that are trained belong in `encode`."""

    def after_step(  # noqa: B027 - for methods that have a state
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Follow an update of the weights, without gradient: move a momentum twin, a centre, a queue.

        Args:
            rows: of this process's images in the step, as `encode` gave them.
            progress: share of the run's steps that are done, above 0 and up to 1, for schedules.
        """

    def sized_as(self, own: dict[str, Tensor]) -> "Objective":
        """The same with the sizes of its own modules in a file, by their names in `added`.

        Raises:
            InputError: they have sizes that the method does not have.
        """
        return self

    def fitted(self, own: dict[str, Tensor], vit: VisionTransformer) -> dict[str, Tensor]:
        """Bring what depends on the input size in the modules of a file to that of a backbone."""
        return own

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor:
        """The places of all patches that a step takes, from those that a caller chose to be visible.

        Raises:
            InputError: the method cannot see these.
        """
        return keep_NVK

    def from_checkpoint(
        self,
        source: str | Path,
        *,
        arch: str | None = None,
        layout: str | None = None,
        branch: str | None = None,
        img_size: int | None = None,
    ) -> Bound:
        """Bind the objective to the backbone of a checkpoint and to its own modules in that file.

        Args:
            source, arch, layout, branch: as `load_checkpoint` takes them.
            img_size: side of the input in pixels; None for the checkpoint's own.

        Returns:
            a module in eval mode. The objective's own modules have their sizes in the file.

        Raises:
            InputError: as `load_checkpoint`; a backbone of another kind, or the file does not hold the
                objective's own modules.
        """
        stated: dict[str, Any] = {"arch": arch, "layout": layout, "branch": branch}
        found = load_checkpoint(source, **stated, beside=self.in_files)
        if not dataclasses.replace(found.arch, class_token=True).is_plain:
            raise InputError(f"{source} is no plain ViT, which {self.name} needs")
        self.require_tokens(found.arch)
        vit = found.backbone(img_size=img_size)
        assert isinstance(vit, VisionTransformer)
        own = found.content.beside
        objective = self.sized_as(own)
        with torch.random.fork_rng(devices=[]):
            added = objective.added(vit)
        if problems := fill_own(added, objective.fitted(own, vit), needs_all=True):
            raise InputError(
                f"{source} does not hold {self.name}'s own modules: {first_few(problems, '; ')}"
            )
        sized = dataclasses.replace(found.arch, img_size=found.input_size(img_size or 0))
        return Bound(objective, sized, vit, added.eval())

    def health(self, rows: Tensor) -> dict[str, float]:
        """Numbers on held-out images, by name, from the rows of all of them."""
        return {}

    def watch(self, plan: TrainingPlan) -> Watch:
        """Make the watch over each step's numbers: `loss`, `gradient_norm` and `numbers`."""
        return lambda step, numbers: ""

    def flop_per_image(self, arch: Arch, *, batch_size: int = 256) -> float:
        """FLOP of one image's forward and backward pass in steps of `batch_size` images, counted one
        operation after the other: a multiplication and an addition are two; the loss, the optimiser and
        what is repeated to save memory do not count."""
        draws = self.typical_draws(arch, batch_size)
        return statistics.mean(flop_of(self, arch, one) for one in draws)

    def tokens_per_image(self, arch: Arch, *, batch_size: int = 256) -> tuple[float, float]:
        """Tokens, [CLS] among them, that pass the blocks of ViTs for one image, counted: with gradient,
        and without, such as a teacher's."""
        counts = [tokens_of(self, arch, one) for one in self.typical_draws(arch, batch_size)]
        student, teacher = (statistics.mean(column) for column in zip(*counts, strict=True))
        return student, teacher

    def typical_draws(self, arch: Arch, batch_size: int) -> Sequence[dict[str, Tensor]]:
        """Further draws of one image (`Patches.more`) over which costs are averaged: one where all
        images cost the same in steps of any size."""
        return [self.wants(arch).more(0, 0, np.arange(1))]


def disjoint_views(arch: Arch, *, num_views: int, mask_ratio: float) -> Patches:
    """V random views of an image that share no patch; `mask_ratio` is the share that none sees.

    Raises:
        InputError: as `views.patches_per_view`.
    """
    per_view = patches_per_view(arch.num_patches, num_views=num_views, mask_ratio=mask_ratio)
    draw = functools.partial(
        draw_views, num_patches=arch.num_patches, num_views=num_views, mask_ratio=mask_ratio
    )
    return Patches(
        num_views=num_views,
        per_view=per_view,
        of=arch.num_patches,
        patch_size=arch.patch_size,
        draw=draw,
    )
