"""Statistics of images beside the libraries' own metrics: equal numbers, each image once, refusals."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric
from mmdet.registry import METRICS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from openmmlab.perturbed import CLASSES, Perturbed, evaluation
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import confusion_matrix
from small_sets import cut_to
from support import good, torchrun

from micl_bench.openmmlab import coco_metric  # noqa: F401  (registers MiCLCocoMetric)
from micl_bench.openmmlab.evidence import Evidence, Measured
from micl_bench.records.evidence.confusions import Confusions, read_confusions
from micl_bench.records.evidence.detections import Detections, read_detections
from micl_bench.runtime.errors import InputError


@METRICS.register_module()
class Elsewhere(CocoMetric):
    """Keeps its annotations where nobody knows, as `LVISMetric` does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._elsewhere = self.__dict__.pop("_coco_api")


WORKER = Path(__file__).with_name("evidence_worker.py")
SEVEN = {"val_dataloader.dataset.indices": 7}
VAL = "embedded-coco/annotations/instances_val2017.json"


def found(
    library: str, data: Path, work_dir: Path, **options: Any
) -> tuple[dict[str, float], Evidence]:
    """The library's metrics, and the hook that watched."""
    runner, evidence = evaluation(library, data, work_dir, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        return runner.val(), evidence


@pytest.fixture(scope="module")
def segmented(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Measured]:
    metrics, evidence = found("mmseg", embedded, tmp_path_factory.mktemp("seg"))
    return metrics, evidence.measured(metrics)


@pytest.fixture(scope="module")
def detected(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    folder = tmp_path_factory.mktemp("det")
    written = {"val_evaluator.outfile_prefix": str(folder / "results")}
    metrics, evidence = found("mmdet", embedded, folder, **written)
    return metrics, evidence.measured(metrics), folder


def test_miou_is_mmsegmentations(segmented: tuple[dict[str, float], Measured]) -> None:
    metrics, ours = segmented
    assert ours.metrics == {name: pytest.approx(metrics[name]) for name in ("mIoU", "mAcc", "aAcc")}
    assert 20 < ours.metrics["mIoU"] < 90
    for name, value in ours.statistics.metrics().items():
        assert value == pytest.approx(metrics[name], abs=0.0051), name
    for name, (low, high) in ours.intervals.items():
        assert low < ours.metrics[name] < high < low + 20


def test_confusions_are_those_of_the_label_files(
    segmented: tuple[dict[str, float], Measured], embedded: Path
) -> None:
    """Read again from the PNGs, where 0 is background and classes begin at 1."""
    made = segmented[1].statistics
    assert isinstance(made, Confusions)
    folder = embedded / "embedded-ade20k/annotations/validation"
    assert len(made.files) == len(list(folder.iterdir()))
    assert made.classes == CLASSES
    for number, name in enumerate(made.files):
        labels = np.asarray(Image.open(folder / f"{Path(name).stem}.png"))
        assert name.startswith("images/validation/")
        here = made.image_E == number
        matrix = np.zeros((10, 10), dtype=int)
        matrix[made.truth_E[here], made.predicted_E[here]] = made.pixels_E[here]
        counts = np.bincount(labels[labels > 0], minlength=11)[1:]
        np.testing.assert_array_equal(matrix.sum(axis=1), counts)
    # One image, pixel by pixel, against scikit-learn.
    model, truth = Perturbed(), labels.astype(int) - 1
    sample = SegDataSample(metainfo={"img_path": f"x/{Path(made.files[-1]).name}"})
    known = np.where(truth < 0, 255, truth)
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(known)[None])
    said = model([], [sample])[0].pred_sem_seg.data.numpy()[0]
    expected = confusion_matrix(truth[truth >= 0], said[truth >= 0], labels=range(10))
    np.testing.assert_array_equal(matrix, expected)


def pycocotools_stats(truth: Path, results: Path, kind: str) -> np.ndarray:
    """AP, AP50, AP75 in percent."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        theirs = COCOeval(coco, coco.loadRes(json.loads(results.read_text())), kind)
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return 100 * theirs.stats[:3]


def test_ap_is_pycocotools_and_mmdetections(
    detected: tuple[dict[str, float], Measured, Path], embedded: Path
) -> None:
    metrics, ours, folder = detected
    made = ours.statistics
    assert isinstance(made, Detections)
    assert made.categories == CLASSES
    assert len(made.files) == 60
    for kind, name in (("bbox", "box_AP"), ("segm", "mask_AP")):
        stats = pycocotools_stats(embedded / VAL, folder / f"results.{kind}.json", kind)
        values = [made.metrics()[name + end] for end in ("", "50", "75")]
        np.testing.assert_allclose(values, stats, rtol=0, atol=1e-9)
        assert 5 < values[0] < 95
        assert ours.metrics[name] == pytest.approx(100 * metrics[f"coco/{kind}_mAP"])
        assert ours.metrics[f"{name}75"] == pytest.approx(100 * metrics[f"coco/{kind}_mAP_75"])
        low, high = ours.intervals[name]
        assert low < values[0] < high < low + 40


def test_both_are_read_back(
    segmented: tuple[Any, Measured], detected: tuple[Any, Measured, Path], tmp_path: Path
) -> None:
    segmented[1].statistics.write(tmp_path / "c.npz")
    detected[1].statistics.write(tmp_path / "d.npz")
    assert read_confusions(tmp_path / "c.npz").metrics() == segmented[1].statistics.metrics()
    assert read_detections(tmp_path / "d.npz").metrics() == detected[1].statistics.metrics()


def test_nothing_detected_is_an_ap_of_zero(embedded: Path, tmp_path: Path) -> None:
    metrics, evidence = found("mmdet", embedded, tmp_path, **{"model.share": 1})
    ours = evidence.measured(metrics)
    assert len(ours.metrics) == 6
    assert set(ours.metrics.values()) == {0.0}
    assert set(map(tuple, ours.intervals.values())) == {(0.0, 0.0)}
    assert ours.statistics.object_count_E.sum() == 173  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("metric", "indices"),
    [("CocoMetric", 16), ("MiCLCocoMetric", [40, 3, 17, 16, 59, 0, 22, 31])],
)
def test_a_part_of_the_images_is_a_smaller_data_set(
    embedded: Path, tmp_path: Path, metric: str, indices: Any
) -> None:
    """As pycocotools, given annotations that were cut to these images."""
    chosen = list(range(indices)) if isinstance(indices, int) else indices
    changes = {
        "val_dataloader.dataset.indices": indices,
        "val_evaluator.type": metric,
        "val_evaluator.outfile_prefix": str(tmp_path / "results"),
    }
    metrics, evidence = found("mmdet", embedded, tmp_path, **changes)
    ours = evidence.measured(metrics)
    cut = tmp_path / "cut.json"
    files = cut_to(embedded / VAL, chosen, cut)
    assert ours.statistics.files == tuple(sorted(files))
    for kind, name in (("bbox", "box_AP"), ("segm", "mask_AP")):
        stats = pycocotools_stats(cut, tmp_path / f"results.{kind}.json", kind)
        values = [ours.statistics.metrics()[name + end] for end in ("", "50", "75")]
        np.testing.assert_allclose(values, stats, rtol=0, atol=1e-9)
        assert 10 < stats[0] < 95
        assert ours.metrics[name] == pytest.approx(stats[0], abs=0.0501)
        assert metrics[f"coco/{kind}_mAP"] == pytest.approx(stats[0] / 100, abs=0.000501)
        low, high = ours.intervals[name]
        assert low <= stats[0] <= high


def test_one_kind_and_a_few_images_will_do(embedded: Path, tmp_path: Path) -> None:
    changes = {**SEVEN, "val_evaluator.metric": "bbox"}
    metrics, evidence = found("mmdet", embedded, tmp_path, **changes)
    ours = evidence.measured(metrics)
    assert list(ours.metrics) == ["box_AP", "box_AP50", "box_AP75"]
    assert len(ours.statistics.files) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_evaluator.ann_file": None}, "use CocoMetric with an ann_file"),
        ({"val_evaluator.ann_file": "CUT"}, "lacks 58 of the data set's 60 images"),
        ({"val_dataloader.dataset.indices": [4, 2, 4]}, "through 2 images 3 times"),
        ({"val_evaluator.type": "Elsewhere"}, "Elsewhere reads no annotations"),
    ],
)
def test_a_metric_over_other_images_is_refused_before_anything_runs(
    embedded: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    cut = tmp_path / "cut.json"
    cut_to(embedded / VAL, [0, 1], cut)
    changes = {key: str(cut) if value == "CUT" else value for key, value in changes.items()}
    runner, _ = evaluation("mmdet", embedded, tmp_path, **changes)
    runner.model.forward = None  # Anything that ran would fail by this.
    with pytest.raises(InputError, match=message) as caught:
        runner.val()
    assert "\n" not in str(caught.value)


def test_more_detections_than_count_leave_out_what_is_over_more(
    embedded: Path, tmp_path: Path
) -> None:
    """AP is over 100 of a category in an image, mmdetection's AP50 over all of up to 1000."""
    metrics, evidence = found("mmdet", embedded, tmp_path, **{"model.junk": 100})
    ours = evidence.measured(metrics)
    assert list(ours.metrics) == list(ours.intervals) == ["box_AP", "mask_AP"]
    apart = ours.statistics.metrics()["box_AP50"] - 100 * metrics["coco/bbox_mAP_50"]
    assert abs(apart) > 0.1, "mmdetection's AP50 is over 100 too, so that nothing need be left out"


def test_several_metrics_with_prefixes(embedded: Path, tmp_path: Path) -> None:
    several = [
        {"type": "IoUMetric", "iou_metrics": ["mIoU", "mFscore"], "prefix": "scenes"},
        {"type": "IoUMetric", "iou_metrics": ["mDice"], "prefix": "other"},
    ]
    metrics, evidence = found("mmseg", embedded, tmp_path, val_evaluator=several)
    ours = evidence.measured(metrics)
    assert ours.metrics["mIoU"] == pytest.approx(metrics["scenes/mIoU"])
    assert list(ours.intervals) == ["mIoU", "mAcc", "aAcc"]


def test_labels_of_no_class_count_as_in_mmsegmentation(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With five classes named, digits 5 to 9 are nobody's truth; what they are taken for is wrong."""
    few = {"val_dataloader.dataset.metainfo": {"classes": CLASSES, "palette": [[0, 0, 0]] * 10}}
    runner, evidence = evaluation("mmseg", embedded, tmp_path, **few)
    dataset = runner.val_dataloader.dataset
    dataset._metainfo["classes"] = CLASSES[:5]
    runner.val_evaluator.dataset_meta = dataset.metainfo
    spoilt = Perturbed._map

    def within(self: Perturbed, sample: Any, rng: np.random.Generator) -> Any:
        answer = spoilt(self, sample, rng)
        answer.data = answer.data % 5
        return answer

    monkeypatch.setattr(Perturbed, "_map", within)
    metrics = runner.val()
    ours = evidence.measured(metrics)
    assert (ours.statistics.truth_E == 5).any()  # type: ignore[union-attr]
    assert ours.metrics["mIoU"] == pytest.approx(metrics["mIoU"])


def test_a_second_evaluation_takes_the_place_of_the_first(embedded: Path, tmp_path: Path) -> None:
    runner, evidence = evaluation("mmseg", embedded, tmp_path, **SEVEN)
    first = runner.val()
    runner.model.share = 0.6
    second = runner.val()
    assert first["mIoU"] > second["mIoU"]
    assert evidence.measured(second).metrics["mIoU"] == pytest.approx(second["mIoU"])
    with pytest.raises(InputError, match="the results kept of each image give"):
        evidence.measured(first)


@pytest.mark.parametrize(("library", "name"), [("mmseg", "mAcc"), ("mmdet", "coco/segm_mAP_50")])
def test_numbers_that_disagree_are_refused(
    embedded: Path, tmp_path: Path, library: str, name: str
) -> None:
    metrics, evidence = found(library, embedded, tmp_path, **SEVEN)
    step = 0.02 if library == "mmseg" else 0.001
    with pytest.raises(InputError, match="by rounding they may differ") as caught:
        evidence.measured({**metrics, name: metrics[name] + step})
    assert "\n" not in str(caught.value)


def test_images_that_were_not_evaluated_are_missed(embedded: Path, tmp_path: Path) -> None:
    metrics, evidence = found("mmseg", embedded, tmp_path, **SEVEN)
    evidence._kept.popitem()
    with pytest.raises(InputError, match="6 different images were evaluated, the data set has 7"):
        evidence.measured(metrics)


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ({"type": "DumpResults", "out_file_path": "never-written.pkl"}, "is DumpResults"),
        ({"type": "IoUMetric", "nan_to_num": 0}, "nan_to_num=0"),
    ],
)
def test_other_evaluators_are_refused_before_anything_runs(
    embedded: Path, tmp_path: Path, evaluator: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        found("mmseg", embedded, tmp_path, val_evaluator=[evaluator])


@pytest.mark.long
def test_two_processes_keep_each_image_once(embedded: Path, tmp_path: Path) -> None:
    """Seven images on two processes: one of them evaluates an image again."""
    good(torchrun(2, WORKER, embedded, tmp_path))
    for library in ("mmseg", "mmdet"):
        metrics, evidence = found(library, embedded, tmp_path / library, **SEVEN)
        alone = evidence.measured(metrics)
        told = [json.loads((tmp_path / f"{library}{rank}.json").read_text()) for rank in (0, 1)]
        assert told[0] == told[1]
        assert told[0]["metrics"] == alone.metrics
        assert told[0]["intervals"] == alone.intervals
        assert told[0]["kept"] == 4
        assert "may differ" in told[0]["refused"]
        alone.statistics.write(tmp_path / "alone.npz")
        written = (tmp_path / f"{library}1.npz").read_bytes()
        assert written == (tmp_path / "alone.npz").read_bytes()
