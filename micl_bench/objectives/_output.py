"""What an objective gives for the images of a step."""

import dataclasses

from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """The scalar to minimise, and those that are reported beside it, named in `Objective.numbers`."""

    loss: Tensor
    numbers: dict[str, Tensor] = dataclasses.field(default_factory=dict)
