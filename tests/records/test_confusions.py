"""Confusions of images: the metrics by hand, the bootstrap by a naive twin, its coverage, and files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from micl_bench.records.evidence.confusions import Confusions, read_confusions
from micl_bench.records.statistics import bootstrap
from micl_bench.runtime.errors import InputError

CLASSES = ("sky", "wall", "tree", "lamp", "fan")


def confusions(matrices_NTP: NDArray[np.int64], classes: tuple[str, ...] = CLASSES) -> Confusions:
    """Of dense matrices: images, truth (one more than classes: no class), predicted."""
    image, truth, predicted = matrices_NTP.nonzero()
    return Confusions(
        files=tuple(f"{index:04d}.png" for index in range(len(matrices_NTP))),
        classes=classes,
        image_E=image,
        truth_E=truth,
        predicted_E=predicted,
        pixels_E=matrices_NTP[image, truth, predicted],
    )


def some(images: int, seed: int = 0) -> NDArray[np.int64]:
    """Matrices in which a lamp is in one image only, a fan nowhere, and some labels are no class."""
    rng = np.random.default_rng(seed)
    matrices = rng.integers(0, 50, (images, 6, 5)) * (rng.random((images, 6, 5)) < 0.4)
    matrices[:, 3:5] = 0
    matrices[:, :, 3:] = 0
    matrices[0, 3, 3], matrices[0, 3, 0] = 7, 3
    return matrices


def naive(metric: str, matrix_TP: NDArray[np.int64]) -> float:
    """Class by class, from one matrix of all images."""
    shares = []
    for c in range(matrix_TP.shape[1]):
        right, true, said = matrix_TP[c, c], matrix_TP[c].sum(), matrix_TP[:, c].sum()
        if metric == "mIoU" and true + said - right:
            shares.append(right / (true + said - right))
        if metric == "mAcc" and true:
            shares.append(right / true)
    if metric == "aAcc":
        shares = [np.trace(matrix_TP) / matrix_TP[: matrix_TP.shape[1]].sum()]
    return 100 * float(np.mean(shares))


def test_two_classes_by_hand() -> None:
    # 6 of class 0 right, 2 of it taken for 1, 4 of class 1 right; 1 pixel of no class taken for 1.
    matrix = np.array([[[6, 2], [0, 4], [0, 1]]])
    made = confusions(matrix, ("a", "b"))
    assert made.metrics()["mIoU"] == pytest.approx(100 * (6 / 8 + 4 / 7) / 2)
    assert made.metrics()["mAcc"] == pytest.approx(100 * (6 / 8 + 1) / 2)
    assert made.metrics()["aAcc"] == pytest.approx(100 * 10 / 12)


def test_metrics_are_the_naive_ones() -> None:
    matrices = some(20)
    made = confusions(matrices)
    whole = matrices.sum(axis=0)
    assert made.metrics() == pytest.approx({m: naive(m, whole) for m in ("mIoU", "mAcc", "aAcc")})


@pytest.mark.parametrize("metric", ["mIoU", "mAcc", "aAcc"])
def test_the_bootstrap_is_that_of_single_images(metric: str) -> None:
    """The same draws, each made into one matrix of the images drawn; lamps are often not drawn."""
    matrices = some(20)
    twin = bootstrap(lambda drawn: naive(metric, drawn.sum(axis=0)), [matrices], seed=3, rounds=400)
    assert confusions(matrices).intervals(seed=3, rounds=400)[metric] == pytest.approx(twin)


def test_draws_do_not_depend_on_the_order_of_the_images() -> None:
    made = confusions(some(20))
    order = np.random.default_rng(1).permutation(20)
    place = np.argsort(order)
    shuffled = Confusions(
        files=tuple(made.files[index] for index in order),
        classes=CLASSES,
        image_E=place[made.image_E],
        truth_E=made.truth_E,
        predicted_E=made.predicted_E,
        pixels_E=made.pixels_E,
    )
    np.testing.assert_allclose(
        made.draws(rounds=30)["mIoU"], shuffled.draws(rounds=30)["mIoU"], rtol=1e-12
    )


def test_the_interval_covers_the_true_value() -> None:
    """Of many simulated data sets, about 95 % of the intervals hold the mIoU of endless images."""
    rng, images, held = np.random.default_rng(0), 80, 0
    # The share of right pixels varies from image to image, evenly from 0.5 to 1, for two classes.
    truth = 0.75 / (1 + 0.25)
    for seed in range(200):
        right = np.rint(1000 * rng.uniform(0.5, 1, (images, 2))).astype(int)
        matrices = np.zeros((images, 3, 2), dtype=int)
        matrices[:, 0, 0], matrices[:, 1, 1] = right.T
        matrices[:, 0, 1], matrices[:, 1, 0] = 1000 - right.T
        low, high = confusions(matrices, ("a", "b")).intervals(seed=seed, rounds=300)["mIoU"]
        held += low <= 100 * truth <= high
    # A binomial with 0.95 is outside of this once in a thousand times; a little is lost to 80 images.
    assert 178 <= held <= 199


def test_no_labelled_pixel_is_no_number() -> None:
    made = confusions(np.zeros((2, 3, 2), dtype=int), ("a", "b"))
    assert np.isnan([*made.metrics().values(), *made.intervals()["mIoU"]]).all()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    made = confusions(some(20))
    made.write(tmp_path / "c.npz")
    read = read_confusions(tmp_path / "c.npz")
    assert (read.files, read.classes) == (made.files, made.classes)
    assert read.intervals(rounds=20) == made.intervals(rounds=20)
    made.write(tmp_path / "again.npz")
    assert (tmp_path / "c.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def spoilt(tmp_path: Path, **changes: Any) -> Path:
    confusions(some(20)).write(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        arrays = {**file, **changes}
    path = tmp_path / "spoilt.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.full(5, 3)}, "truth is not 5 whole numbers"),
        ({"pixels": None}, "lacks pixels"),
        ({"files": np.array(["a"] * 20)}, "files is not a list of different names"),
        ({"files": np.arange(20)}, "files is not a list of different names"),
        ({"classes": np.array(["a", "b"])}, "truth is not .* below 3"),
        ({"pixels": np.array([{}], dtype=object)}, "pickled objects"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_confusions(spoilt(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["image", "truth", "predicted", "pixels"])
def test_negative_and_broken_numbers_are_refused(tmp_path: Path, name: str) -> None:
    with np.load(spoilt(tmp_path)) as file:
        right = file[name]
    for wrong in (right - right.max() - 1, right + 0.5, right[:, None]):
        with pytest.raises(InputError, match=r"is not \d+ whole numbers"):
            read_confusions(spoilt(tmp_path, **{name: wrong}))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = spoilt(tmp_path)
    content = path.read_bytes()
    for kept in (0, 3, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"no readable \.npz of arrays"):
            read_confusions(path)
    with pytest.raises(InputError, match="is no file"):
        read_confusions(tmp_path / "missing.npz")
