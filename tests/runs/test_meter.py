"""FLOP against a closed form, a meter's arithmetic on a clock of our own, and the machine's peak."""

import math
from collections.abc import Iterator

import pytest
import torch

from micl_bench.backbone import named_arch
from micl_bench.objectives.micl import MiCL
from micl_bench.runs import meter
from micl_bench.runs.meter import Meter, matmul_peak


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "views", "ratio", "kept"),
    [
        ("vit_small_patch16_224", 2, 0.9, 9),
        ("vit_large_patch16_224", 2, 0.9, 9),
        ("vit_large_patch16_224", 3, 0.625, 24),
        ("vit_demo_patch4_32", 2, 0.5, 16),
    ],
)
def test_flop_are_those_of_the_closed_form(name: str, views: int, ratio: float, kept: int) -> None:
    arch = named_arch(name)
    D, T = arch.width, kept + 1
    # Weights of a block: qkv 3 D D, projection D D, MLP 4 D D twice. Each is a multiplication and an
    # addition a token.
    linear = 2 * 12 * D * D * T
    # Queries times keys, and their softmax times values: T x T products of width D in all heads.
    attention = 2 * 2 * T * T * D
    # Backward, each product has two: one for each of its factors.
    blocks = 3 * arch.depth * (linear + attention)
    # Of pixels nobody asks the gradient: the projection's backward is one product.
    projection = 2 * (2 * 3 * arch.patch_size**2 * D * kept)
    objective = MiCL(MiCL.Config(num_views=views, mask_ratio=ratio))
    assert objective.wants(arch).per_view == kept
    assert objective.flop_per_image(arch) == views * (blocks + projection)


def test_the_published_size_of_a_step() -> None:
    # ViT-L/16 at mask ratio 0.9: about 37 GFLOP a training step of one image.
    arch = named_arch("vit_large_patch16_224")
    found = MiCL(MiCL.Config(mask_ratio=0.9)).flop_per_image(arch)
    assert round(found / 1e9) in (36, 37)


class Clock:
    """Stands in for the module `time`; it goes on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def batches_of(clock: Clock, seconds: float) -> Iterator[int]:
    """Batches, each `seconds` late."""
    number = 0
    while True:
        clock.now += seconds
        yield number
        number += 1


def test_speed_waiting_and_share_of_the_peak(clock: Clock) -> None:
    measured = Meter(flop_per_image=3.0, peak=60.0)
    assert (measured.images_per_second, measured.data_wait, measured.mfu) == (0, 0, 0)
    taken = []
    for batch in measured.waiting_for(batches_of(clock, 0.25)):
        taken.append(batch)
        clock.now += 0.75
        measured.step(8)
        if batch == 3:
            break
    assert taken == [0, 1, 2, 3]
    assert measured.images_per_second == 8
    assert measured.data_wait == 0.25
    assert measured.mfu == 8 * 3.0 / 60.0
    assert measured.busy_seconds == 4


def test_steps_count_by_their_length(clock: Clock) -> None:
    measured = Meter(flop_per_image=1.0, peak=1.0)
    for seconds, images in ((1.0, 10), (3.0, 10)):
        clock.now += seconds
        measured.step(images)
    # 20 images in 4 seconds; not the mean of 10 and 3.33.
    assert measured.images_per_second == 5


def test_what_lies_in_a_pause_does_not_count(clock: Clock) -> None:
    measured = Meter(flop_per_image=1.0, peak=1.0)
    batches = measured.waiting_for(batches_of(clock, 0.5))
    next(batches)
    clock.now += 0.5
    measured.step(4)
    next(batches)
    clock.now += 1000
    measured.pause()
    next(batches)
    clock.now += 0.5
    measured.step(4)
    assert measured.images_per_second == 4
    assert measured.data_wait == 0.5
    assert measured.busy_seconds == 2


def test_only_the_last_steps_count_for_speed_but_all_for_the_time(clock: Clock) -> None:
    measured = Meter(flop_per_image=1.0, peak=1.0)
    for seconds in [10.0] * 30 + [1.0] * 50:
        clock.now += seconds
        measured.step(6)
    assert measured.images_per_second == 6
    assert measured.busy_seconds == 350


def test_batches_that_end_end_the_loop(clock: Clock) -> None:
    measured = Meter(flop_per_image=1.0, peak=1.0)
    assert list(measured.waiting_for(iter([1, 2]))) == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_a_positive_number(dtype: torch.dtype) -> None:
    peak = matmul_peak(torch.device("cpu"), dtype)
    assert 0 < peak < math.inf


def test_the_peak_is_of_the_fastest_product(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, list[int]] = {"slow": [], "fast": []}

    def product(name: str, flop_per_second: float) -> meter.Product:
        def multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            sizes[name].append(len(left))
            clock.now += 2 * len(left) ** 3 / flop_per_second
            return left

        return multiply

    forms = [product("slow", 1e9), product("fast", 25e9)]
    monkeypatch.setattr(meter, "_LINEAR_PRODUCTS", forms)
    assert matmul_peak(torch.device("cpu"), torch.bfloat16) == pytest.approx(25e9, rel=1e-9)
    # Two seconds for a product of 1,024 that cannot be the best one.
    assert (max(sizes["slow"]), max(sizes["fast"])) == (256, 1024)


def test_the_products_are_those_of_a_linear_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, gradient = (
        torch.randn(5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    )
    forward, by_input, by_weight = meter._LINEAR_PRODUCTS
    output = torch.nn.functional.linear(x, weight)
    output.backward(gradient)
    torch.testing.assert_close(forward(x, weight), output)
    torch.testing.assert_close(by_input(gradient, weight), x.grad)
    torch.testing.assert_close(by_weight(gradient, x), weight.grad)


def test_the_peak_is_found_where_larger_products_are_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A machine that others begin to use: each size at less than half the speed of the one before.
    speeds = iter(range(90, 0, -10))

    def slowing(form: object, left: torch.Tensor, right: torch.Tensor, *, repeats: int) -> float:
        return float(next(speeds)) / len(left) ** 2

    monkeypatch.setattr(meter, "_speed", slowing)
    assert matmul_peak(torch.device("cpu"), torch.float32) == 90 / 256**2
