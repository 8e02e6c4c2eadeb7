"""Blocks of I-JEPA: every property that is stated of them, and lightly's sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.data.ijepa_collate import IJEPAMaskCollator

from micl_bench.backbone import named_arch
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.visible import Visible
from micl_bench.objectives._blocks import Blocks, block_size
from micl_bench.objectives.ijepa import IJepa
from micl_bench.runtime.errors import InputError

PUBLISHED: dict[str, Any] = {
    "num_targets": 4,
    "target_share": (0.15, 0.2),
    "target_aspect": (0.75, 1.5),
    "context_share": (0.85, 1.0),
    "min_context": 10,
}
BATCHES = range(30)


def drawn(side: int, epoch: int, images: int = 12, **changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and targets of the images 100, 101, ..."""
    blocks = Blocks(side=side, **{**PUBLISHED, **changes})
    found = blocks(5, epoch, np.arange(100, 100 + images))
    return found["context_NK"].numpy(), found["targets_NTA"].numpy()


@pytest.mark.parametrize("side", [8, 14, 16])
def test_targets_are_rectangles_of_one_published_size_a_batch(side: int) -> None:
    sizes = set()
    for epoch in BATCHES:
        _, targets_NTA = drawn(side, epoch)
        assert targets_NTA.shape[:2] == (12, 4)
        in_batch = set()
        for places_A in targets_NTA.reshape(48, -1):
            rows, columns = np.unique(places_A // side), np.unique(places_A % side)
            assert np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
            assert np.array_equal(columns, np.arange(columns[0], columns[0] + len(columns)))
            assert len(places_A) == len(rows) * len(columns)
            # As in the code the last row and column are never reached.
            assert rows[-1] < side - 1
            assert columns[-1] < side - 1
            in_batch.add((len(rows), len(columns)))
        assert len(in_batch) == 1
        sizes |= in_batch
    for rows, columns in sizes:
        # Each side is rounded: by half a patch.
        assert 0.15 * side**2 - (rows + columns) / 2 < rows * columns + 1
        assert rows * columns < 0.2 * side**2 + (rows + columns) / 2
        assert 0.75 * (columns - 0.5) - 0.5 < rows < 1.5 * (columns + 0.5) + 0.5
    assert len(sizes) > 1


@pytest.mark.parametrize("side", [8, 14, 16])
def test_contexts_share_no_patch_with_targets_and_are_of_one_size(side: int) -> None:
    for epoch in BATCHES:
        context_NK, targets_NTA = drawn(side, epoch)
        assert context_NK.shape[1] > 10
        assert (np.diff(context_NK, axis=1) > 0).all()
        assert context_NK.min() >= 0
        assert context_NK.max() < side**2
        for places_K, target_TA in zip(context_NK, targets_NTA, strict=True):
            assert not set(places_K.tolist()) & set(target_TA.ravel().tolist())


def test_a_context_is_its_square_less_the_targets_cut_at_the_end() -> None:
    for epoch in BATCHES:
        context_NK, targets_NTA = drawn(14, epoch)
        # 0.85 of 196 patches are 13 x 13 at least, the largest allowed, which has one place.
        square = {row * 14 + column for row in range(13) for column in range(13)}
        whole = [sorted(square - set(target_TA.ravel().tolist())) for target_TA in targets_NTA]
        smallest = min(len(places) for places in whole)
        assert context_NK.tolist() == [places[:smallest] for places in whole]


def test_places_vary_and_fill_the_grid() -> None:
    corners = np.concatenate([drawn(14, epoch)[1][:, :, 0].ravel() for epoch in BATCHES])
    # 1,440 corners among 7 to 9 rows and columns that are free, drawn evenly.
    counts = np.bincount(corners // 14, minlength=14)
    assert (counts[:6] > 100).all()
    assert counts[10:].sum() == 0
    counts = np.bincount(corners % 14, minlength=14)
    assert (counts[:6] > 100).all()


def test_without_a_large_enough_context_all_other_patches_are_it() -> None:
    # Squares of 2 x 2 are never more than 10 patches.
    context_NK, targets_NTA = drawn(8, 0, context_share=(0.05, 0.07))
    others = [sorted(set(range(64)) - set(target_TA.ravel().tolist())) for target_TA in targets_NTA]
    smallest = min(map(len, others))
    assert context_NK.tolist() == [places[:smallest] for places in others]


def test_sizes_are_those_of_lightlys_collator() -> None:
    for side in (8, 14, 16):
        theirs = IJEPAMaskCollator(input_size=side * 16, patch_size=16)
        for seed in range(200):
            number = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
            for scale, aspect in (((0.15, 0.2), (0.75, 1.5)), ((0.85, 1.0), (1.0, 1.0))):
                expected = theirs._sample_block_size(
                    generator=torch.Generator().manual_seed(seed),
                    scale=scale,
                    aspect_ratio_scale=aspect,
                )
                found = block_size(
                    side,
                    share=scale[0] + number * (scale[1] - scale[0]),
                    aspect=aspect[0] + number * (aspect[1] - aspect[0]),
                )
                assert found == tuple(expected)


def test_a_draw_is_a_function_of_seed_epoch_and_batch() -> None:
    blocks = Blocks(side=14, **PUBLISHED)
    index_N = np.array([7, 3, 900, 12])
    first, again = blocks(1, 2, index_N), blocks(1, 2, index_N)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (blocks(2, 2, index_N), blocks(1, 3, index_N), blocks(1, 2, index_N[::-1].copy())):
        same = other["targets_NTA"].shape == first["targets_NTA"].shape
        assert not (same and torch.equal(other["targets_NTA"], first["targets_NTA"]))


@pytest.mark.parametrize(("parts", "workers"), [(1, 2), (2, 0), (4, 0)])
def test_the_same_blocks_for_any_number_of_processes_and_workers(
    few_digits: Path, parts: int, workers: int
) -> None:
    wants = IJepa.Config(predictor_width=64).build().wants(named_arch("vit_demo_patch4_32_nocls"))
    folder = open_folder(few_digits / "train")

    def taken(part: tuple[int, int], num_workers: int) -> list[Visible]:
        options: dict[str, Any] = {"batch_size": 20, "seed": 3, "steps": range(6), "part": part}
        pixels = Pixels(img_size=32, crop_pct=1.0)
        return list(wants.batches(folder, pixels, **options, num_workers=num_workers))

    whole = taken((0, 1), 0)
    split = [taken((number, parts), workers) for number in range(parts)]
    for step, batch in enumerate(whole):
        own = [part[step] for part in split]
        assert torch.equal(torch.cat([one.keep_NVK for one in own]), batch.keep_NVK)
        assert batch.drawn.keys() == {"context_NK", "targets_NTA"}
        for name, expected in batch.drawn.items():
            assert torch.equal(torch.cat([one.drawn[name] for one in own]), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_targets": 5}, r"5 targets of up to 12 of 64 patches may leave 4 for the context"),
        ({"target_share": (0.2, 0.4)}, "may leave 0 for the context"),
    ],
)
def test_targets_that_may_leave_too_little_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Blocks(side=8, **{**PUBLISHED, **changes})
