"""The sign of a collapse in methods that predict a network's own output: all images get one target.

Shapes: N images, D width.
"""

import torch.nn.functional as F
from torch import Tensor

from micl_bench.runs.plan import TrainingPlan

_ALIKE = 0.99


def cosine_of_others(targets_ND: Tensor) -> Tensor:
    """The mean cosine between rows of different images, without gradient; 1 is a collapse. Of a single
    image it is not a number."""
    unit_ND = F.normalize(targets_ND.detach(), dim=-1)
    N = len(unit_ND)
    # All ordered pairs are the square of the sum; less each row with itself.
    return (unit_ND.sum(0).square().sum() - unit_ND.square().sum()) / (N * (N - 1))


class TargetsAlike:
    """Warns, once, when the targets of different images have had a mean cosine, `target_cosine`, above
    0.99 for an epoch without a break after the warm-up.

    New networks, too, give all images nearly one vector: before the end of the warm-up it says nothing.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._warmup_steps, self._patience = plan.warmup_steps, plan.steps_per_epoch
        self._in_a_row = 0

    def __call__(self, step: int, numbers: dict[str, float]) -> str:
        """The warning at the step that completes the epoch; else nothing."""
        cosine = numbers["target_cosine"]
        counts = cosine > _ALIKE and step > self._warmup_steps
        self._in_a_row = self._in_a_row + 1 if counts else 0
        if self._in_a_row != self._patience:
            return ""
        return (
            "collapse: for an epoch the targets of different images have been nearly one (mean cosine "
            f"{cosine:.4f}); a lower optim.base_lr, a longer warm-up or a higher momentum may help"
        )
