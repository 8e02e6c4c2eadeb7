"""What methods with visible and hidden patches share: the order of patches, and the watch."""

import pytest
import torch

from micl_bench.objectives._masked import BaselineWatch, then_hidden

WORDS = "predicting the mean"


def watch() -> BaselineWatch:
    return BaselineWatch("blind", WORDS, warmup_steps=3, steps_per_epoch=5)


def test_hidden_patches_stand_in_ascending_order_behind_the_visible_ones() -> None:
    keep_N1K = torch.tensor([[[4, 1]], [[0, 5]]])
    assert then_hidden(keep_N1K, 6, 2).tolist() == [[[4, 1, 0, 2, 3, 5]], [[0, 5, 1, 2, 3, 4]]]


def test_a_model_that_says_nothing_is_told_once_when_an_epoch_after_the_warm_up_is_complete() -> (
    None
):
    look = watch()
    told = {n: text for n in range(1, 30) if (text := look(n, {"loss": 0.5, "blind": 0.5}))}
    # Steps 4 to 8 are the first five after the warm-up.
    assert list(told) == [8]
    assert "the loss, 0.500, has been that of predicting the mean, 0.500;" in told[8]


@pytest.mark.parametrize(("loss", "expected"), [(0.496, True), (0.8, True), (0.494, False)])
def test_a_loss_within_one_percent_counts_and_a_single_good_step_begins_anew(
    loss: float, expected: bool
) -> None:
    look = watch()
    told = [n for n in range(1, 30) if look(n, {"loss": loss, "blind": 0.5})]
    assert told == ([8] if expected else [])
    look = watch()
    told = [
        n for n in range(1, 30) if look(n, {"loss": 0.1 if n in (5, 8) else loss, "blind": 0.5})
    ]
    assert told == ([13] if expected else [])
