"""The precision that is told is the one that ran."""

import pytest
import torch
from torch import nn

from micl_bench.runs.precision import at_precision
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")


class Stubborn(nn.Module):
    """Keeps its products out of autocast, as the obsolete switch of a config would."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x_ND: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.linear(x_ND.float())


def convolution_and_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(2, 2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_ran_is_seen_and_the_model_is_left_as_it_was(precision: str) -> None:
    model, before = convolution_and_linear(), torch.get_num_threads()
    with at_precision(precision, model, CPU) as watch:
        assert watch.seen() == ""
        output = model(torch.ones(1, 3, 2, 2))
        assert watch.seen() == precision
    assert output.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.get_num_threads() == before
    assert torch.backends.cudnn.allow_tf32


def test_half_a_model_in_another_precision_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Stubborn())
    with at_precision("bf16", model, CPU) as watch:
        model(torch.ones(1, 4))
        assert watch.seen() == "bf16+fp32"


def test_bf16_that_does_nothing_is_refused() -> None:
    model = Stubborn()
    with at_precision("bf16", model, CPU) as watch:
        model(torch.ones(1, 4))
        with pytest.raises(InputError, match="bf16 was asked for, but the model ran in fp32"):
            watch.seen()


def test_fp32_inside_autocast_is_fp32() -> None:
    model = convolution_and_linear()
    with torch.autocast("cpu", torch.bfloat16), at_precision("fp32", model, CPU) as watch:
        model(torch.ones(1, 3, 2, 2))
        assert watch.seen() == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rounded_factors_are_told() -> None:
    model, device = convolution_and_linear().cuda(), torch.device("cuda")
    with at_precision("fp32", model, device) as watch:
        model(torch.ones(1, 3, 2, 2, device=device))
        assert watch.seen() == "fp32"
    with at_precision("fp32", model, device) as watch:
        # As a library that sets it for the whole process would.
        torch.backends.cuda.matmul.allow_tf32 = True
        model(torch.ones(1, 3, 2, 2, device=device))
        assert watch.seen() == "fp32+tf32"
    assert not torch.backends.cuda.matmul.allow_tf32
