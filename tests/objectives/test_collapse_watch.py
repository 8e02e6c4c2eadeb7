"""The collapse watch of contrasts, step by step."""

import math

import pytest

from micl_bench.objectives._contrast import CollapseWatch


def tell(
    watch: CollapseWatch, step: int, *, bad: bool, loss: float | None = None, gap: float = 0.0
) -> str:
    loss = loss if loss is not None else math.log(16) if bad else 1.0
    numbers = {"loss": loss, "positive_cosine": 0.9 + gap, "negative_cosine": 0.9}
    return watch(step, numbers)


def test_a_collapse_is_told_once_when_an_epoch_after_the_warm_up_is_complete() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=3, steps_per_epoch=5)
    told = {step: text for step in range(1, 30) if (text := tell(watch, step, bad=True))}
    # Steps 4 to 8 are the first five after the warm-up.
    assert list(told) == [8]
    assert "2.773 of log(16) = 2.773" in told[8]
    assert "(mean cosine 0.900)" in told[8]


def test_a_single_good_step_begins_the_epoch_anew() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=5)
    told = [step for step in range(1, 30) if tell(watch, step, bad=step not in (5, 8))]
    assert told == [13]


def test_after_a_recovery_it_is_told_again() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=2)
    told = [step for step in range(1, 12) if tell(watch, step, bad=step != 6)]
    assert told == [2, 8]


@pytest.mark.parametrize(
    ("loss", "gap", "expected"),
    [
        (math.log(16), 0.0, True),
        (0.991 * math.log(16), 0.019, True),
        # Worse than chance is no better.
        (2 * math.log(16), -0.5, True),
        (0.989 * math.log(16), 0.0, False),
        (math.log(16), 0.021, False),
        (float("nan"), 0.0, False),
    ],
)
def test_both_the_loss_and_the_cosines_must_say_so(loss: float, gap: float, expected: bool) -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=1)
    assert bool(tell(watch, 1, bad=True, loss=loss, gap=gap)) == expected


def test_chance_of_a_loss_that_is_a_multiple_of_the_cross_entropy() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=1, scale=0.8)
    assert tell(watch, 1, bad=True, loss=0.789 * math.log(16)) == ""
    assert "2.218 of 0.8 log(16) = 2.218" in tell(watch, 2, bad=True, loss=0.8 * math.log(16))
