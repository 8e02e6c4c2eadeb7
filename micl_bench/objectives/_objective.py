"""A pre-training method, as far as it is more than the backbone that it trains.

An objective is one file of this folder, or of a plug-in, that assigns `OBJECTIVE` a class. The training
loop knows nothing else of it.

Shapes: N images of one process, M visible patches of an image in all views, P values a patch, V views,
K patches a view.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from micl_bench.backbone import Arch
from micl_bench.data.visible import Patches
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.values import Values

Watch = Callable[[int, dict[str, float]], str]
"""Looks at the numbers of each step, in order; a sentence where the user should be warned, else ""."""


class ObjectiveConfig(Values):
    """Base of an objective's configuration, a frozen dataclass: `objective=MiCL.Config(...)`."""

    objective: ClassVar[type["Objective"]]

    def build(self) -> "Objective":
        """The objective with these values."""
        return self.objective(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """The scalar to minimise, and the scalars that are reported beside it, by `Objective.numbers`."""

    loss: Tensor
    numbers: dict[str, Tensor] = dataclasses.field(default_factory=dict)


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
    """Names of what `Output.numbers` holds; each is a column of the run's metrics."""
    Config: ClassVar[type[ObjectiveConfig]]

    def __init_subclass__(cls) -> None:
        if "Config" in vars(cls):
            cls.Config.objective = cls

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.Config()

    def settings(self) -> dict[str, Any]:
        """The method's name and the values that the result depends on, for a run's fingerprint."""
        return {"method": self.name, **to_dict(self.config)}

    def summary(self) -> str:
        """A few words on the configuration for the protocol of the record; may be empty."""
        return ""

    @abc.abstractmethod
    def wants(self, arch: Arch) -> Patches:
        """What a step takes of an image.

        Raises:
            InputError: the architecture's patches do not suffice.
        """

    def require(self, plan: TrainingPlan) -> None:  # noqa: B027 - most methods take any size
        """Raise an InputError where a run of this plan makes no sense."""

    def comparisons(self, plan: TrainingPlan) -> str:
        """What the plan says of how the images of a batch meet: `each among 256`; may be empty."""
        return ""

    def added(self, vit: VisionTransformer) -> nn.Module:
        """The modules that are trained or carried along with a backbone as training starts with it,
        such as a decoder, a head, a momentum twin or a queue: a module that `encode` and
        `after_step` get back, and whose whole `state_dict` is saved and restored. torch's own
        generator starts at the recipe's seed."""
        return nn.Module()

    @abc.abstractmethod
    def encode(
        self, vit: VisionTransformer, added: nn.Module, visible_NMP: Tensor, keep_NVK: Tensor
    ) -> Tensor:
        """What the loss is computed from: one row per image, so that a batch can be cut into parts.

        Args:
            visible_NMP: normalised pixels of the patches at the places `keep_NVK`, which `wants` says.
        """

    @abc.abstractmethod
    def loss(self, rows: Tensor) -> Output:
        """This process's part of the loss, of the rows of all its images; the mean over processes is the
        loss of the batch."""

    def after_step(  # noqa: B027 - for methods that have a twin
        self, vit: VisionTransformer, added: nn.Module
    ) -> None:
        """Follow the weights after an update, as a momentum twin does."""

    def health(self, rows: Tensor) -> dict[str, float]:
        """Numbers on held-out images, from the rows of all of them."""
        return {}

    def watch(self, plan: TrainingPlan) -> Watch:
        """A look at each step's numbers (`loss`, `gradient_norm` and `numbers`)."""
        return lambda step, numbers: ""

    def flop_per_image(self, arch: Arch) -> float:
        """FLOP of one image's forward and backward pass, counted operation by operation.

        A multiplication and an addition are two; the loss and the optimiser are not counted, nor is
        anything that is computed twice to save memory.
        """
        wants = self.wants(arch)
        # Tensors of the meta device have shapes and no memory: nothing is computed.
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            vit = arch.build()
            added = self.added(vit)
            views, kept = wants.num_views, wants.per_view
            visible_NMP = torch.empty(1, views * kept, 3 * arch.patch_size**2)
            keep_NVK = torch.zeros(1, views, kept, dtype=torch.long)
            self.encode(vit, added, visible_NMP, keep_NVK).sum().backward()
        return float(counter.get_total_flops())
