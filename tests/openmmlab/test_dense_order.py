"""Which image comes when, and drawn how: the same for any workers, cuts and processes."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from micl_bench.openmmlab import sampling as order
from micl_bench.openmmlab.sampling import Batch, shared
from micl_bench.runtime.errors import InputError

LENGTH, SIZE, SEED = 11, 4, 3


class Drawn(Dataset[Any]):
    """Each item is its index and what three generators give."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), np.random.rand(), torch.rand(()).item()

    def get_data_info(self, index: int) -> dict[str, int]:
        self.asked += 1
        return {"width": 10 + index % 3, "height": 11}


def loader(
    *, workers: int = 0, first: int = 0, shuffle: bool = True, by_aspect: bool = False
) -> DataLoader[Any]:
    dataset = Drawn()
    sampler = InfiniteSampler(dataset, shuffle=shuffle, seed=SEED)
    kind = AspectRatioBatchSampler if by_aspect else BatchSampler
    plain = DataLoader(
        dataset,
        batch_sampler=kind(sampler, SIZE, drop_last=False),
        num_workers=workers,
        collate_fn=list,
    )
    found = order.placed(plain, seed=SEED, endless=True)
    found.batch_sampler.begin(first)  # type: ignore[union-attr]
    return found


def drawn(number: int, **options: Any) -> list[list[tuple[Any, ...]]]:
    batches = iter(loader(**options))
    return [next(batches) for _ in range(number)]


def test_the_order_is_mmengines_own() -> None:
    expected = iter(InfiniteSampler(Drawn(), shuffle=True, seed=SEED))
    found = [item[0] for batch in drawn(9) for item in batch]
    assert found == [next(expected) for _ in found]


@pytest.mark.parametrize("by_aspect", [False, True])
def test_neither_workers_nor_cuts_move_an_image_or_a_draw(by_aspect: bool) -> None:
    whole = drawn(9, by_aspect=by_aspect)
    assert drawn(9, workers=2, by_aspect=by_aspect) == whole
    for first in (1, 5):
        assert drawn(9 - first, first=first, by_aspect=by_aspect) == whole[first:]
    # An image that comes again is drawn anew.
    again = [item for batch in whole for item in batch if item[0] == whole[0][0][0]]
    assert len(again) > 1
    assert len({item[1:] for item in again}) == len(again)


def test_to_come_to_a_step_no_image_is_looked_at_and_each_size_once() -> None:
    found = loader(first=50, by_aspect=True)
    next(iter(found))
    assert found.dataset.asked <= LENGTH


def test_the_generators_are_left_alone() -> None:
    def states() -> tuple[Any, ...]:
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    item = order.Placed(Drawn(), seed=SEED)[5, 2]
    after = states()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert after == states()
    assert item[0] == 2


def test_two_processes_draw_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(3)
    for rank in range(2):
        monkeypatch.setattr(order, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(order, "world_size", lambda: 2)
        sampler = InfiniteSampler(Drawn(), seed=SEED)
        sampler.rank, sampler.world_size = rank, 2
        plain = DataLoader(
            Drawn(), batch_sampler=BatchSampler(sampler, SIZE // 2, False), collate_fn=list
        )
        half = iter(order.placed(plain, seed=SEED, endless=True))
        for batch in whole:
            assert next(half) == batch[rank::2]


def test_a_finite_sampler_begins_its_next_epoch_in_another_order() -> None:
    dataset = Drawn()
    plain = DataLoader(
        dataset, batch_sampler=BatchSampler(DefaultSampler(dataset, seed=SEED), SIZE, False)
    )
    passes: Any = order.placed(plain, seed=SEED, endless=True).batch_sampler
    stream = iter(passes)
    epochs = [[index for _ in range(3) for _, index in next(stream)] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(LENGTH))
    assert epochs[0] != epochs[1]
    assert len(passes) == 3


def config(**parts: Any) -> Config:
    return Config(
        {
            "train_dataloader": {"batch_size": 2},
            "optim_wrapper": {},
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 10},
            **parts,
        }
    )


def test_a_named_batch_is_divided_and_a_step_stays_an_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = {"auto_scale_lr": {"enable": False, "base_batch_size": 16}}
    monkeypatch.setattr(order, "world_size", lambda: 2)
    given = config(**named, optim_wrapper={"accumulative_counts": 4})
    found = shared(given)
    assert found == Batch(16, 2, 4, counted=True)
    assert given.train_dataloader.batch_size == found.size == 2
    assert found.steps(10) == 10
    # Without a name as in mmengine: a process's own, and iterations are passes.
    found = shared(config(optim_wrapper={"accumulative_counts": 4}))
    assert (found.total, found.size, found.steps(10)) == (16, 2, 3)


@pytest.mark.parametrize(
    ("parts", "overrides", "message"),
    [
        ({"auto_scale_lr": {"base_batch_size": 9}}, (), "processes that fit: 1, 3, 9"),
        (
            {
                "auto_scale_lr": {"base_batch_size": 4},
                "optim_wrapper": {"accumulative_counts": 3},
            },
            (),
            "processes that fit: none",
        ),
        ({"train_dataloader": {}}, (), "batch_size is None"),
        (
            {"auto_scale_lr": {"base_batch_size": 4}},
            ["train_dataloader.batch_size=2"],
            "--set auto_scale_lr.base_batch_size=",
        ),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    parts: dict[str, Any],
    overrides: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(order, "world_size", lambda: 2)
    with pytest.raises(InputError, match=message):
        shared(config(**parts), overrides)
