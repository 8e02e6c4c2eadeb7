"""Every image once, and the same bits however the work is cut: processes, batches, budgets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import good, torchrun

from engine.features_worker import BATCHES, BUDGETS, CPU, KEYS, PIXELS, K, compute, synthetic
from micl_bench.data.folder import open_folder
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import open_store
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen import features
from micl_bench.engine.frozen.features import SLICE_IMAGES, own_images, run_over_folder

WORKER = Path(__file__).with_name("features_worker.py")
IMAGES = SLICE_IMAGES + 13


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are told apart by one pixel, which is their number."""
    root = tmp_path_factory.mktemp("numbered")
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        pixels[0, 0] = number
        path = root / f"class_{number // 30}" / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def alone(numbered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process computes."""
    return compute(numbered, tmp_path_factory.mktemp("alone"))


# Two slices: the third process has none. Two processes: see also tests/tasks/test_knn_task.py.
@pytest.mark.long
@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.long), 3])
def test_any_number_of_processes_gives_the_same_bits(
    numbered: Path, alone: dict[str, Any], tmp_path: Path, processes: int
) -> None:
    out = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, numbered, tmp_path / "cache", out))
    found = torch.load(out, weights_only=True)
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(found[name], value), name


def test_any_batch_size_and_budget_gives_the_same_bits(alone: dict[str, Any]) -> None:
    for name in ("outputs fp32", "outputs bf16", "cls_1 fp32", "cls_4 bf16", "avg_1 fp32"):
        first, *others = (alone[f"{name} {batch_size}"] for batch_size in BATCHES)
        assert len(first) == len(first.unique(dim=0)) == IMAGES
        assert all(torch.equal(first, other) for other in others)
    for name in ("similarity", "index"):
        first, *others = (alone[f"{name} {memory_mib}"] for memory_mib in BUDGETS)
        assert all(torch.equal(first, other) for other in others)
    assert torch.equal(alone["cls_1 fp32 7"], alone["outputs fp32 7"])
    assert not torch.equal(alone["outputs bf16 7"], alone["outputs fp32 7"])


def test_the_search_finds_what_sorting_everything_finds(alone: dict[str, Any]) -> None:
    keys_ND, queries_MD = (torch.nn.functional.normalize(part.double()) for part in synthetic())
    similarity_MK, index_MK = (alone[f"{name} {BUDGETS[0]}"] for name in ("similarity", "index"))
    cosine_MN = queries_MD @ keys_ND.T
    best_MK = cosine_MN.topk(K, dim=1).values
    torch.testing.assert_close(similarity_MK.double(), best_MK, rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine_MN.gather(1, index_MK), best_MK, rtol=0, atol=1e-6)
    assert all(len(row.unique()) == K for row in index_MK)
    # 9,002 keys equal the first query, of which the first ones count.
    ties = [0, 20_000, *range(KEYS - 9000, KEYS)]
    assert index_MK[0].tolist() == ties[:K]


@pytest.mark.parametrize("batch_size", [1, 7, 31, 64, 1000])
def test_every_image_counts_once_in_order(numbered: Path, batch_size: int) -> None:
    folder, shapes = open_folder(numbered), set()

    def number(images: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(images.shape))
        return images[:, 0, 0, :1]

    outputs_N1, labels_N = run_over_folder(
        number, folder, PIXELS, device=CPU, batch_size=batch_size
    )
    assert outputs_N1[:, 0].tolist() == list(range(IMAGES))
    assert labels_N.tolist() == [number // 30 for number in range(IMAGES)]
    # Products of one shape, whatever the number of images.
    assert shapes == {(SLICE_IMAGES, 3, 32, 32)}


@pytest.mark.parametrize("images", [1, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_shares_are_whole_slices_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, images: int, processes: int
) -> None:
    monkeypatch.setattr(features, "world_size", lambda: processes)
    shares = []
    for number in range(processes):
        monkeypatch.setattr(features, "rank", lambda number=number: number)
        shares.append(own_images(images))
    assert [index for share in shares for index in share] == list(range(images))
    assert all(share.start % SLICE_IMAGES == 0 or not share for share in shares)
    assert len(shares[0]) > 0
    slices = [-(-len(share) // SLICE_IMAGES) for share in shares]
    assert max(slices) - min(slices) <= 1


@pytest.mark.parametrize("layout", ["patch", "image"])
def test_packed_stores_are_read_too(numbered: Path, tmp_path: Path, layout: str) -> None:
    patch = {"patch_size": 4, "crop_pct": 1.0} if layout == "patch" else {}
    pack_folder(numbered, tmp_path / "store", layout=layout, size=32, **patch)
    store = open_store(tmp_path / "store")
    assert store.names == open_folder(numbered).names

    def identity(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def read(source: object, batch_size: int) -> torch.Tensor:
        pixels = Pixels(img_size=32, crop_pct=1.0 if layout == "patch" else 0.875)
        return run_over_folder(identity, source, pixels, device=CPU, batch_size=batch_size)[0]  # type: ignore[arg-type]

    assert torch.equal(read(store, 7), read(store, 64))
    if layout == "patch":
        assert torch.equal(read(store, 7), read(open_folder(numbered), 5))
