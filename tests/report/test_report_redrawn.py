"""mIoU and AP compared on the same images: a naive paired bootstrap, what is refused, what is shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Run
from synthetic_results import result

from micl_bench.records.evidence.confusions import Confusions
from micl_bench.records.evidence.detections import Detections, Found
from micl_bench.records.result import Result, write_result
from micl_bench.records.statistics import paired_bootstrap
from micl_bench.report import build_report
from micl_bench.report.compare.comparison import Comparison, compare_all
from micl_bench.report.compare.comparison_output import compare, comparison_text
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file

N, C = 30, 4
FILES = tuple(f"images/validation/{index:03d}.jpg" for index in range(N))


def matrices(share: float, seed: int = 0) -> NDArray[np.int64]:
    """Confusions (N, truth, predicted) of one truth, of which about `share` is found.

    How hard an image is, is the same for every share and seed.
    """
    truth = np.random.default_rng(1).integers(10, 400, (N, C))
    ease = np.random.default_rng(2).uniform(-0.2, 0.2, (N, 1))
    rng = np.random.default_rng(seed)
    right = rng.binomial(truth, np.clip(share + ease, 0, 1))
    made = right[:, :, None] * np.eye(C, dtype=int)
    made += np.roll((truth - right)[:, :, None] * np.eye(C, dtype=int), 1, axis=2)
    return made


def confusions(made_NTP: NDArray[np.int64], files: tuple[str, ...] = FILES) -> Confusions:
    image, truth, predicted = made_NTP.nonzero()
    return Confusions(
        files=files,
        classes=tuple("abcd"),
        image_E=image,
        truth_E=truth,
        predicted_E=predicted,
        pixels_E=made_NTP[image, truth, predicted],
    )


def detections(share: float, seed: int = 0) -> Detections:
    """One object in each image; a detection finds it, with chance `share`, at 0.5 or also at 0.75."""
    rng = np.random.default_rng(seed)
    found = Found(
        image_D=np.arange(N),
        category_D=np.zeros(N, dtype=int),
        score_D=np.random.default_rng(1).random(N),
        matched_TD=rng.random(N) < share * np.array([[1.0], [0.6]]),
        ignored_TD=np.zeros((2, N), dtype=bool),
    )
    return Detections(
        files=FILES,
        categories=("thing",),
        iou_T=np.array([0.5, 0.75]),
        object_image_E=np.arange(N),
        object_category_E=np.zeros(N, dtype=int),
        object_count_E=np.ones(N, dtype=int),
        found={"bbox": found, "segm": found},
    )


def write(folder: Path, statistics: Confusions | Detections, **changes: Any) -> Result:
    """A record as segmentation and detection write it: rounded metrics, statistics beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    statistics.write(folder / "evidence.npz")
    segments = isinstance(statistics, Confusions)
    found = {k: v for k, v in statistics.metrics().items() if segments or k.endswith("AP")}
    ends = statistics.intervals()
    values: dict[str, Any] = {
        "task": "ade20k" if segments else "coco",
        "metrics": {name: round(value, 2 if segments else 1) for name, value in found.items()},
        "intervals": {name: list(ends[name]) for name in found},
        "data": {"images": N},
        "artifacts": {"evidence": "evidence.npz"},
        "evidence": statistics.kind,
        "digests": {"evidence": digest_file(folder / "evidence.npz")},
    }
    made = result(**{**values, **changes})
    write_result(made, folder)
    return made


def compared(*folders: Path) -> Comparison:
    return compare_all(read_contenders(folders))


def mean_iou(made_NTP: NDArray[np.int64]) -> float:
    """Class by class, of all images."""
    whole = made_NTP.sum(axis=0)
    shares = [whole[c, c] / (whole[c].sum() + whole[:, c].sum() - whole[c, c]) for c in range(C)]
    return 100 * float(np.mean(shares))


def test_miou_is_compared_by_the_paired_bootstrap(tmp_path: Path) -> None:
    a, b = matrices(0.72), matrices(0.7, seed=1)
    write(tmp_path / "a", confusions(a))
    write(tmp_path / "b", confusions(b), method="x")
    found = {d.metric: d for d in compared(tmp_path / "a", tmp_path / "b").differences}
    assert list(found) == ["mIoU", "mAcc", "aAcc"]
    twin = paired_bootstrap(mean_iou, [a], [b], seed=0, rounds=2000)
    ours = found["mIoU"]
    assert ours.interval == pytest.approx(twin[:2])
    assert ours.p == pytest.approx(twin[2])
    assert ours.test == "bootstrap"
    # Of the numbers as measured: two rounded ones would be off by up to their last digit.
    assert ours.estimate == pytest.approx(mean_iou(a) - mean_iou(b))
    # Hard images are hard for both, so the difference is surer than either number.
    (low, high), alone = twin[:2], found["mIoU"].ours.interval
    assert alone is not None
    assert high - low < (alone[1] - alone[0]) / 2


def test_ap_is_compared_by_the_paired_bootstrap(tmp_path: Path) -> None:
    one, other = detections(0.9), detections(0.3, seed=1)
    write(tmp_path / "a", one)
    write(tmp_path / "b", other, method="x")
    found = compared(tmp_path / "a", tmp_path / "b").differences
    box = found[0]
    assert box.metric == "box_AP"
    values_R = one.draws()["box_AP"] - other.draws()["box_AP"]
    assert box.interval == pytest.approx(tuple(np.quantile(values_R, [0.025, 0.975])))
    assert box.p == pytest.approx(2 * (1 + (values_R <= 0).sum()) / 2001)
    assert box.verdict == "A is better"
    # Masks here are the boxes: the same numbers image by image are one test.
    assert found[1].verdict == "not tested: it is box AP"


def test_the_same_weights_are_not_different(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, confusions(matrices(0.7)), method=name)
    found = compared(tmp_path / "a", tmp_path / "b").differences[0]
    assert (found.estimate, found.interval, found.p) == (0, (0, 0), 1)
    assert found.verdict == "no difference shown"


def test_images_are_matched_by_name(tmp_path: Path) -> None:
    a, b = matrices(0.72), matrices(0.7, seed=1)
    write(tmp_path / "a", confusions(a))
    write(tmp_path / "b", confusions(b), method="x")
    order = np.random.default_rng(3).permutation(N)
    shuffled = confusions(b[order], tuple(FILES[index] for index in order))
    write(tmp_path / "c", shuffled, method="x")
    straight = compared(tmp_path / "a", tmp_path / "b").differences[0]
    mixed = compared(tmp_path / "a", tmp_path / "c").differences[0]
    assert mixed.interval == pytest.approx(straight.interval)
    assert mixed.p == straight.p
    others = confusions(b, tuple(f"other/{name}" for name in FILES))
    write(tmp_path / "d", others, method="x")
    found = compared(tmp_path / "a", tmp_path / "d").differences[0]
    assert found.verdict.startswith(f"not tested: {2 * N} files are not in both, such as images/")


def test_records_without_statistics_are_not_tested(tmp_path: Path) -> None:
    write(tmp_path / "a", confusions(matrices(0.7)))
    write(tmp_path / "b", confusions(matrices(0.5)), method="x", artifacts={}, digests={})
    found = compared(tmp_path / "a", tmp_path / "b").differences[0]
    assert found.verdict == "not tested: B without per-image predictions"


def test_statistics_that_are_not_the_records_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b", confusions(matrices(0.5)), method="x")
    write(tmp_path / "a", confusions(matrices(0.7)))
    confusions(matrices(0.6)).write(tmp_path / "a" / "evidence.npz")
    with pytest.raises(InputError, match="its SHA-256 differs"):
        compared(tmp_path / "a", tmp_path / "b")
    write(tmp_path / "c", confusions(matrices(0.7)), metrics={"mIoU": 99.0})
    with pytest.raises(InputError, match=r"mIoU is 99\.0000, but the results kept"):
        compared(tmp_path / "c", tmp_path / "b")
    made = write(tmp_path / "d", detections(0.7))
    write(tmp_path / "e", detections(0.5), method="x", metrics={**made.values, "box_AP": 1.0})
    with pytest.raises(InputError, match=r"box_AP is 1\.0000, but the results kept"):
        compared(tmp_path / "d", tmp_path / "e")


def test_damaged_or_foreign_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b", confusions(matrices(0.5)), method="x")
    write(tmp_path / "a", confusions(matrices(0.7)), digests={})
    (tmp_path / "a" / "evidence.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"no readable \.npz of arrays"):
        compared(tmp_path / "a", tmp_path / "b")
    detections(0.5).write(tmp_path / "a" / "evidence.npz")
    with pytest.raises(InputError, match="holds no confusions"):
        compared(tmp_path / "a", tmp_path / "b")
    write(tmp_path / "c", confusions(matrices(0.7)), artifacts={"evidence": "../b/evidence.npz"})
    with pytest.raises(InputError, match="out of the record's folder"):
        compared(tmp_path / "c", tmp_path / "b")


def test_the_command_shows_the_test(micl_bench: Run, tmp_path: Path) -> None:
    write(tmp_path / "a", confusions(matrices(0.8)))
    write(tmp_path / "b", confusions(matrices(0.6, seed=1)), method="x")
    done = micl_bench("compare", "a", "b", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("mIoU"))
    assert row.endswith("A is better")
    assert "mIoU and AP: the paired bootstrap over images" in done.stdout
    (found, *_) = json.loads((tmp_path / "out.json").read_text())["comparisons"]
    assert (found["metric"], found["test"], found["verdict"]) == (
        "mIoU",
        "bootstrap",
        "A is better",
    )


def test_three_contenders_are_all_compared(tmp_path: Path) -> None:
    for name, share in (("a", 0.9), ("b", 0.6), ("c", 0.3)):
        write(tmp_path / name, detections(share, ord(name)), method=name)
    folders = [tmp_path / name for name in "abc"]
    tested = [d for d in compared(*folders).differences if d.p is not None]
    assert [d.letters for d in tested] == [
        ("A", "B"),
        ("A", "C"),
        ("B", "C"),
    ]
    assert "adjusted for the 3 tests above" in comparison_text(compare(*folders).attrs)


def test_the_report_shows_intervals_and_the_test(tmp_path: Path) -> None:
    ours = write(tmp_path / "results" / "a", confusions(matrices(0.8)))
    write(tmp_path / "results" / "b", confusions(matrices(0.6, seed=1)), method="x")
    build_report(tmp_path / "results", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    low, high = ours.metrics["mIoU"].interval
    assert f"{low:.1f}–{high:.1f}" in text
    verdict = next(line for line in text.splitlines() if "MiCL leads in mIoU" in line)
    assert ", p = 0.0010" in verdict
