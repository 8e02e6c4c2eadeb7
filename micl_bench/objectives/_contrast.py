"""Parts of methods that find an image's own view among those of other images.

Shapes: N images, V views, D width.
"""

import math

from torch import Tensor

from micl_bench.losses import alignment, view_cosines

NUMBERS = ("positive_cosine", "negative_cosine")
"""Mean cosine between views of one image, and between views of different images."""


def numbers_of(rows_NVD: Tensor) -> dict[str, Tensor]:
    """`NUMBERS` of the views of N images, without gradient."""
    return dict(zip(NUMBERS, view_cosines(rows_NVD), strict=True))


def health_of(rows_NVD: Tensor) -> dict[str, float]:
    """Alignment, and mean cosines between views of one image and of different images, by name."""
    held_out = {f"held_out_{name}": value.item() for name, value in numbers_of(rows_NVD).items()}
    return {"alignment": alignment(rows_NVD).item(), **held_out}


class CollapseWatch:
    """Warns, once, when a model cannot distinguish images for a whole epoch.

    At chance the loss is log(N). A loss within 1 % of it, and views of one image no closer than views
    of different ones by 0.02, say next to nothing about the image. That is how training starts, too:
    so it counts only after the warm-up, and only for an epoch without a break.

    Args:
        num_images: N, among which one must be found.
        scale: the loss is so many times the mean cross-entropy.
    """

    def __init__(
        self, *, num_images: int, warmup_steps: int, steps_per_epoch: int, scale: float = 1.0
    ) -> None:
        self._chance = scale * math.log(num_images)
        self._words = f"{'' if scale == 1 else f'{scale:g} '}log({num_images})"
        self._warmup_steps, self._patience = warmup_steps, steps_per_epoch
        self._in_a_row = 0

    def __call__(self, step: int, numbers: dict[str, float]) -> str:
        """The warning at the step that completes the epoch; else nothing."""
        loss, positive, negative = (numbers[name] for name in ("loss", *NUMBERS))
        alike = loss > 0.99 * self._chance and positive - negative < 0.02
        self._in_a_row = self._in_a_row + 1 if alike and step > self._warmup_steps else 0
        if self._in_a_row != self._patience:
            return ""
        return (
            f"collapse: for an epoch the loss has been at chance, {loss:.3f} of {self._words} = "
            f"{self._chance:.3f}, and views of one image are hardly closer (mean cosine {positive:.3f}) "
            f"than views of different images ({negative:.3f}); a lower optim.base_lr or a longer "
            "warm-up may help"
        )
