"""ImageNet-C: mCE against closed forms, and a whole run with known answers."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from colours import IDS, SMALL, colour, paint, save_classifier
from support import REPOSITORY, Run, intervals_in, overrides, record_in, values_in

from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.runtime import plugins
from micl_bench.tasks.robustness.scores import corruption_errors

CORRUPTIONS = plugins.find("robustness", "imagenet_c").SET.corruptions


def test_alexnet_itself_has_an_mce_of_100() -> None:
    # Its own mean errors are of 5 x 50,000 images each: made image by image, to a hundredth.
    right_NKS = np.ones((10_000, 15, 5), dtype=bool)
    for number, error in enumerate(CORRUPTIONS.values()):
        right_NKS[: round(100 * error), number] = False
    mce = corruption_errors(right_NKS, list(CORRUPTIONS.values())).mean()
    assert mce == pytest.approx(100, abs=0.01)


def test_mce_is_the_mean_of_ratios_of_sums_over_severities() -> None:
    rng = np.random.default_rng(0)
    right_NKS = rng.random((50, 15, 5)) < rng.random((1, 15, 5))
    ratios = []
    for number, alexnet in enumerate(CORRUPTIONS.values()):
        errors = [100 - 100 * right_NKS[:, number, severity].mean() for severity in range(5)]
        ratios.append(100 * sum(errors) / (5 * alexnet))
    mce = corruption_errors(right_NKS, list(CORRUPTIONS.values())).mean()
    assert mce == pytest.approx(sum(ratios) / 15)


def test_a_run_over_all_corruptions_has_the_known_answers(micl_bench: Run, tmp_path: Path) -> None:
    data, classes = tmp_path / "data", (3, 500)
    name = "ILSVRC2012_val_{:08d}.JPEG"
    for number in classes:
        paint(data / "imagenet/val" / IDS[number] / name.format(number + 1), colour(number))
    # Class 500 is wrong in contrast from severity 3 on, and in fog always. The centre has a colour of
    # another class, which the recipe's crop would leave alone, were it made a second time.
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            for number in classes:
                is_wrong = number == 500 and (
                    corruption == "fog" or (corruption == "contrast" and severity >= 3)
                )
                path = data / "imagenet-c" / corruption / str(severity) / IDS[number]
                shown = 7 if is_wrong else number
                paint(
                    path / name.format(number + 1),
                    colour(shown + 1),
                    side=4,
                    frame=2,
                    frame_rgb=colour(shown),
                )
    save_classifier(tmp_path / "classifier.pt", order=range(1000), names=IDS)
    recipe = REPOSITORY / "downstream" / "imagenet_robustness_all.py"
    done = micl_bench(
        *("eval", "robustness", "--checkpoint", tmp_path / "classifier.pt", "--recipe", recipe),
        *("--data", data, "--out", tmp_path / "out"),
        *overrides(*SMALL, "sets=[imagenet_c]", "pixels.crop_pct=0.5"),
    )
    assert done.returncode == 0, done.stderr
    record = record_in(tmp_path / "out", "robustness")
    fog, contrast = 50, 30
    metrics = {
        "mCE": 100 * (fog / CORRUPTIONS["fog"] + contrast / CORRUPTIONS["contrast"]) / 15,
        "top1": 100 - (fog + contrast) / 15,
        "clean_top1": 100,
        "drop": (fog + contrast) / 15,
    }
    assert values_in(record) == pytest.approx(metrics)
    by_corruption = dict.fromkeys(CORRUPTIONS, 100.0) | {"fog": 50.0, "contrast": 70.0}
    assert record["details"]["top1_by_corruption"] == pytest.approx(by_corruption)
    assert record["details"]["top1_by_severity"]["contrast"] == [100, 100, 50, 50, 50]
    assert record["data"]["images"] == 150
    # Two images: a bootstrap draws the right one twice, or the wrong one twice.
    assert intervals_in(record)["mCE"] == pytest.approx([0, 2 * metrics["mCE"]])
    kept = read_predictions(tmp_path / "out" / record["artifacts"]["evidence"])
    assert len(kept.correct) == 75
    evidence = (tmp_path / "out" / record["artifacts"]["evidence"]).read_bytes()
    assert record["digests"] == {"evidence": hashlib.sha256(evidence).hexdigest()}
    assert kept.accuracy("top1_contrast_3") == 50
    assert record["settings"]["set_crop_pct"] == 1
