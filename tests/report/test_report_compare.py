"""`micl-bench compare`: counts by hand, SciPy's tests, and what must not be compared."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from support import Run
from synthetic_results import changed, result

from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import DataSet, Record, Result, write_result
from micl_bench.records.statistics import holm, paired_difference_interval, t_interval, wilson
from micl_bench.report import build_report
from micl_bench.report.compare.artefact_files import evidence_of
from micl_bench.report.compare.comparison import Comparison, compare_all
from micl_bench.report.compare.comparison_output import compare, comparison_text
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file

M = 400
FILES = tuple(f"class/{index:04d}.png" for index in range(M))


def right(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(M) < share).astype(np.int8)


def write(
    folder: Path,
    correct: dict[str, np.ndarray],
    *,
    files: tuple[str, ...] = FILES,
    metrics: dict[str, float] | None = None,
    differences: dict[str, tuple[str, str]] | None = None,
    scores: dict[str, np.ndarray] | None = None,
    **changes: Any,
) -> Result:
    """A record with its predictions beside it."""
    none = np.full(len(files), -1)
    predictions = Predictions(
        files=files,
        classes=("one", "two"),
        labels_M=none,
        predicted=dict.fromkeys(correct, none),
        correct=correct,
        differences=differences or {},
        scores=scores or {},
    )
    accuracies = {name: predictions.accuracy(name) for name in correct}
    record = result(
        metrics={**accuracies, **(metrics or {})},
        data={"images": len(files)},
        artifacts={"evidence": "predictions-knn.npz"},
        evidence="predictions",
        **changes,
    )
    predictions.write(folder / "predictions-knn.npz")
    write_result(record, folder)
    return record


def compared(*folders: Path) -> Comparison:
    return compare_all(read_contenders(folders))


def test_one_run_each_is_mcnemar_on_the_images_that_one_alone_gets_right(tmp_path: Path) -> None:
    a, b = right(0.8, 0), right(0.6, 1)
    ours, _ = write(tmp_path / "a", {"top1": a}), write(tmp_path / "b", {"top1": b}, method="x")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    only_a = sum(1 for one, other in zip(a, b, strict=True) if one and not other)
    only_b = sum(1 for one, other in zip(a, b, strict=True) if other and not one)
    assert (found.only_ours, found.only_theirs) == (only_a, only_b)
    assert found.estimate == pytest.approx(100 * (only_a - only_b) / M)
    assert found.p == pytest.approx(scipy.stats.binomtest(only_a, only_a + only_b).pvalue)
    assert found.interval == paired_difference_interval(only_a, only_b, M)
    assert found.ours.interval == pytest.approx(wilson(ours.values["top1"], M))
    assert found.verdict == "A is better"
    (other_way,) = compared(tmp_path / "b", tmp_path / "a").differences
    assert other_way.verdict == "B is better"
    assert other_way.estimate == pytest.approx(-found.estimate)


def test_images_are_matched_by_name_not_by_position(tmp_path: Path) -> None:
    a, b = right(0.7, 0), right(0.6, 1)
    write(tmp_path / "a", {"top1": a})
    write(tmp_path / "b", {"top1": b}, method="x")
    order = np.random.default_rng(2).permutation(M)
    shuffled = tuple(FILES[index] for index in order)
    write(tmp_path / "shuffled", {"top1": b[order]}, method="x", files=shuffled)
    straight = compared(tmp_path / "a", tmp_path / "b").differences[0]
    other = compared(tmp_path / "a", tmp_path / "shuffled").differences[0]
    assert dataclasses.replace(other, theirs=straight.theirs) == straight


def test_images_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    a, b = right(0.7, 0), right(0.6, 1)
    a[:100] = b[:100] = -1
    write(tmp_path / "a", {"real_top1": a})
    write(tmp_path / "b", {"real_top1": b}, method="x")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert found.only_ours == int(((a == 1) & (b == 0))[100:].sum())
    b[100] = -1
    write(tmp_path / "c", {"real_top1": b}, method="x")
    (found,) = compared(tmp_path / "a", tmp_path / "c").differences
    assert found.verdict == "not tested: real_top1 counts other images in one than in the other"


def test_all_pairs_of_all_metrics_are_adjusted_together(tmp_path: Path) -> None:
    for name, share in (("a", 0.80), ("b", 0.74), ("c", 0.72)):
        accuracies = {"top1": right(share, ord(name)), "top5": right(share + 0.1, ord(name) + 9)}
        write(tmp_path / name, accuracies, method=name)
    found = compared(*(tmp_path / name for name in "abc")).differences
    assert len(found) == 6
    p_values = [difference.p for difference in found if difference.p is not None]
    assert [difference.adjusted_p for difference in found] == holm(p_values)
    alone = compared(tmp_path / "a", tmp_path / "c").differences[0]
    again = next(d for d in found if d.metric == "top1" and d.letters[1] == "C")
    assert again.p == alone.p
    assert again.adjusted_p is not None
    assert alone.adjusted_p is not None
    assert again.adjusted_p > alone.adjusted_p
    verdicts = {difference.verdict for difference in found}
    assert verdicts == {"A is better", "no difference shown"}


def test_a_metric_by_a_second_name_is_not_tested_twice(tmp_path: Path) -> None:
    for name, share in (("a", 0.8), ("b", 0.7)):
        same, other = right(share, ord(name)), right(share, 1 + ord(name))
        write(tmp_path / name, {"top1": same, "top1_k10": other, "top1_k20": same}, method=name)
    found = {d.metric: d for d in compared(tmp_path / "a", tmp_path / "b").differences}
    assert found["top1_k20"].verdict == "not tested: it is top-1"
    p_values = [found[metric].p for metric in ("top1", "top1_k10")]
    adjusted = [found[metric].adjusted_p for metric in ("top1", "top1_k10")]
    assert adjusted == holm([p for p in p_values if p is not None])


def test_several_seeds_are_welch_over_the_seeds(tmp_path: Path) -> None:
    scores = {"a": [80.0, 80.4, 80.2], "b": [78.0, 79.9, 79.0, 78.6]}
    for name, values in scores.items():
        for seed, value in enumerate(values):
            record = result(method=name, seed=seed, metrics={"top1": value})
            write_result(record, tmp_path / name)
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    expected = scipy.stats.ttest_ind(scores["a"], scores["b"], equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.test == "Welch"
    assert found.ours.mean == pytest.approx(80.2)
    assert found.ours.interval == t_interval(scores["a"])
    write_result(result(method="c", metrics={"top1": 70.0}), tmp_path / "c")
    (found,) = compared(tmp_path / "a", tmp_path / "c").differences
    assert found.verdict == "not tested: B has a single run"
    assert found.estimate == pytest.approx(10.2)


def test_a_repeated_measurement_is_no_further_run(tmp_path: Path) -> None:
    first = result(method="a", metrics={"top1": 70.0})
    again = changed(
        first, recipe_digest="f" * 60, metrics={"top1": 72.0}, start="2025-06-01T10:00:00+00:00"
    )
    for record in (first, again):
        write_result(record, tmp_path / "a")
    write_result(result(method="b"), tmp_path / "b")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert found.ours.values == (72.0,)


def test_a_seed_that_moves_nothing_is_no_further_run(tmp_path: Path) -> None:
    for seed in range(3):
        write_result(result(seed=seed, metrics={"top1": 94.72}), tmp_path / "a")
    for seed in range(2):
        write_result(result(seed=seed, method="b", metrics={"top1": 90.0 + seed}), tmp_path / "b")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert found.ours.values == (94.72,)
    assert found.verdict == "not tested: A has a single run"
    # Equal accuracies of other predictions are another run.
    other = result(seed=3, metrics={"top1": 94.72}, digests={"evidence": "e" * 64})
    write_result(other, tmp_path / "a")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert len(found.ours.values) == 2


def test_the_output_says_of_how_many_checkpoints_the_runs_are(tmp_path: Path) -> None:
    for seed in range(3):
        weights = {"digest": str(seed) * 60}
        write_result(
            result(seed=seed, metrics={"top1": 80.0 + seed}, checkpoint=weights), tmp_path / "a"
        )
        write_result(result(seed=seed, method="b", metrics={"top1": 70.0 + seed}), tmp_path / "b")
    text = comparison_text(compare(tmp_path / "a", tmp_path / "b").attrs)
    assert "(3 runs of 3 checkpoints)" in text
    assert "(3 runs of 1 checkpoint)" in text


def test_other_training_images_are_never_compared(tmp_path: Path) -> None:
    train = DataSet(name="train", split="train", images=1800, digest="t" * 64)
    few = dataclasses.replace(train, images=180, digest="f" * 64)
    write(tmp_path / "a", {"top1": right(0.8, 0)}, train=train)
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x", train=few)
    with pytest.raises(InputError) as caught:
        compared(tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == (
        "nothing to compare: knn on embedded, A and B: other training images: trained on 1,800 images "
        "of train, split train, digest tttttttttttt / trained on 180 images of train, split train, "
        "digest ffffffffffff"
    )


def test_two_networks_of_one_file_are_no_runs_of_one_method(tmp_path: Path) -> None:
    for day, branch in enumerate(("student", "teacher"), 1):
        made = result(checkpoint={"branch": branch}, start=f"2025-05-0{day}T10:00:00+00:00")
        write_result(made, tmp_path / "a")
    write_result(result(method="b"), tmp_path / "b")
    with pytest.raises(InputError, match=r"methods: MiCL, student, vit_\w+; MiCL, teacher, vit_"):
        compared(tmp_path / "a", tmp_path / "b")


def test_different_fingerprints_are_never_compared(tmp_path: Path) -> None:
    settings = {"k": 20, "pixels": {"size": 64}}
    write(tmp_path / "a", {"top1": right(0.8, 0)}, settings=settings)
    write(tmp_path / "b", {"top1": right(0.6, 1)}, settings={**settings, "k": 10}, method="x")
    with pytest.raises(InputError) as caught:
        compared(tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == (
        "nothing to compare: knn on embedded, A and B: another protocol: k: 20 / 10"
    )


def test_different_images_are_never_compared_and_the_rest_is(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    one = result(task="linear", settings={"epochs": 1})
    write_result(one, tmp_path / "a")
    write_result(dataclasses.replace(one, task="logistic"), tmp_path / "b")
    write_result(result(task="finetune"), tmp_path / "a")
    other = result(task="finetune", method="x", data={"images": 901, "digest": "e" * 64})
    write_result(other, tmp_path / "b")
    found = compared(tmp_path / "a", tmp_path / "b")
    assert len(found.differences) == 1
    lines = "\n".join(found.not_compared)
    assert (
        "finetune on embedded, A and B: other images: 900 images of embedded, split test, digest "
        "dddddddddddd / 901 images of embedded, split test, digest eeeeeeeeeeee"
    ) in lines
    assert f"linear on embedded (fingerprint {one.fingerprint[:12]}): A has it, B does not" in lines
    assert "logistic on embedded" in lines


def test_other_files_under_the_same_digest_are_not_tested(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    renamed = (*FILES[:-1], "class/new.png")
    write(tmp_path / "b", {"top1": right(0.6, 1)}, files=renamed, method="x")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert found.p is None
    assert found.verdict == "not tested: 2 files are not in both, such as class/0399.png"


def test_a_metric_without_per_image_evidence_is_shown_but_not_tested(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)}, metrics={"mCE": 60.0})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, metrics={"mCE": 70.0}, method="x")
    found = {d.metric: d for d in compared(tmp_path / "a", tmp_path / "b").differences}
    words = "not tested: it is not made of the results kept of each image"
    assert found["mCE"].verdict == words
    assert found["mCE"].estimate == -10.0
    assert found["top1"].adjusted_p == found["top1"].p
    write_result(result(method="y"), tmp_path / "c")
    with pytest.raises(InputError, match="other images"):
        compared(tmp_path / "a", tmp_path / "c")


def test_the_difference_of_two_drops_is_bootstrapped_over_both_sets(tmp_path: Path) -> None:
    clean, shifted = np.arange(M) < M // 2, np.arange(M) >= M // 2

    def robustness(seed: int, share: float) -> dict[str, np.ndarray]:
        return {
            "clean_top1": np.where(clean, right(0.9, seed), -1).astype(np.int8),
            "top1": np.where(shifted, right(share, seed + 1), -1).astype(np.int8),
        }

    ours, theirs = robustness(0, 0.7), robustness(5, 0.4)
    for name, correct in (("a", ours), ("b", theirs)):
        accuracies = {m: 100 * float(v[v >= 0].mean()) for m, v in correct.items()}
        drop = {"drop": accuracies["clean_top1"] - accuracies["top1"]}
        parts = {"drop": ("clean_top1", "top1")}
        write(tmp_path / name, correct, metrics=drop, differences=parts, method=name)
    found = {d.metric: d for d in compared(tmp_path / "a", tmp_path / "b").differences}
    d_clean, d_shifted = (
        100.0 * (ours[m][where].astype(int) - theirs[m][where])
        for m, where in (("clean_top1", clean), ("top1", shifted))
    )
    error = np.sqrt((d_clean.var() + d_shifted.var()) / (M // 2))
    estimate = d_clean.mean() - d_shifted.mean()
    assert found["drop"].estimate == pytest.approx(estimate)
    expected = (estimate - 1.96 * error, estimate + 1.96 * error)
    assert found["drop"].interval == pytest.approx(expected, rel=0.06)
    assert found["drop"].test == "bootstrap"
    # B loses more: that is said without a word on which is better.
    assert found["drop"].verdict == "B is higher"


def test_means_over_corruptions_are_bootstrapped_over_the_images(tmp_path: Path) -> None:
    alexnet = {"fog": 80.0, "snow": 90.0}
    per_image = {}
    for name, share, seed in (("a", 0.6, 0), ("b", 0.5, 100)):
        columns = {
            f"top1_{c}_{s}": right(share - 0.05 * s, seed + 10 * s + len(c))
            for c in alexnet
            for s in (1, 2, 3, 4, 5)
        }
        error_KN = np.array(
            [100 - 20 * sum(columns[f"top1_{c}_{s}"] for s in (1, 2, 3, 4, 5)) for c in alexnet]
        )
        ce_KN = 100 * error_KN / np.array(list(alexnet.values()))[:, None]
        per_image[name] = {"mCE": ce_KN.mean(axis=0), "top1": 100 - error_KN.mean(axis=0)}
        metrics = {metric: float(values.mean()) for metric, values in per_image[name].items()}
        # As such a record is: the accuracies of its columns are in its details only.
        made = write(
            tmp_path / name,
            columns,
            task="robustness",
            metrics=metrics,
            method=name,
            scores=per_image[name],
        )
        (tmp_path / name / f"{made.id}.json").unlink()
        write_result(changed(made, metrics=metrics), tmp_path / name)
    found = {d.metric: d for d in compared(tmp_path / "a", tmp_path / "b").differences}
    assert found.keys() == {"mCE", "top1"}
    for metric, difference in found.items():
        gap_N = per_image["a"][metric] - per_image["b"][metric]
        error = gap_N.std() / np.sqrt(M)
        expected = (gap_N.mean() - 1.96 * error, gap_N.mean() + 1.96 * error)
        assert difference.interval == pytest.approx(expected, abs=0.25)
        assert difference.verdict == "A is better"
        assert difference.estimate == pytest.approx(gap_N.mean())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda c: {**c, "top1": 1 - c["top1"]},
            "top1 is .*, but the results kept of each image give",
        ),
        (lambda c: {**c, "top1": c["top1"] * 2}, "is not 1, 0 or -1"),
        (lambda c: {**c, "top1": c["top1"][1:]}, "is not 1, 0 or -1 for each of 400 files"),
    ],
)
def test_predictions_that_are_not_the_records_are_refused(
    tmp_path: Path,
    spoil,  # type: ignore[no-untyped-def]
    words: str,
) -> None:
    correct = {"top1": right(0.8, 0)}
    write(tmp_path / "a", correct)
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    none = np.full(M, -1)
    wrong = Predictions(
        files=FILES, classes=(), labels_M=none, predicted={}, correct=spoil(correct)
    )
    wrong.write(tmp_path / "a" / "predictions-knn.npz")
    with pytest.raises(InputError, match=words):
        compared(tmp_path / "a", tmp_path / "b")


def test_predictions_of_another_digest_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    made = write(tmp_path / "a", {"top1": right(0.8, 0)})
    path = tmp_path / "a" / "predictions-knn.npz"
    (tmp_path / "a" / f"{made.id}.json").unlink()
    write_result(dataclasses.replace(made, digests={"evidence": digest_file(path)}), tmp_path / "a")
    assert len(compared(tmp_path / "a", tmp_path / "b").differences) == 1
    none = np.full(M, -1)
    permuted = {"top1": right(0.8, 0)[::-1].copy()}
    Predictions(files=FILES, classes=(), labels_M=none, predicted={}, correct=permuted).write(path)
    with pytest.raises(InputError, match="its SHA-256 differs"):
        compared(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("metric", ["top1", "top1_k20", "clean_top1"])
def test_what_is_right_must_be_what_was_predicted_as_labelled(tmp_path: Path, metric: str) -> None:
    labels_M = np.random.default_rng(0).integers(0, 5, M)
    correct_M = right(0.8, 0)
    made = write(tmp_path / "a", {metric: correct_M})
    path = tmp_path / "a" / "predictions-knn.npz"
    said_M = np.where(correct_M == 1, labels_M, (labels_M + 1) % 5)

    def read(correct: np.ndarray) -> None:
        wrong = Predictions(
            files=FILES,
            classes=(),
            labels_M=labels_M,
            predicted={metric: said_M},
            correct={metric: correct},
        )
        wrong.write(path)
        evidence_of(Record.of(made, tmp_path / "a" / f"{made.id}.json"))

    read(correct_M)
    # As many right as before, on other images.
    with pytest.raises(InputError, match=f"correct.{metric} is not whether predicted.{metric}"):
        read(np.roll(correct_M, 1))


def test_the_report_takes_the_paired_tests_that_evidence_allows(tmp_path: Path) -> None:
    # Intervals overlap, yet on the same images one is better.
    a = right(0.7, 0)
    b = a.copy()
    b[np.flatnonzero(a)[:12]] = 0
    write(tmp_path / "results" / "a", {"top1": a})
    write(tmp_path / "results" / "b", {"top1": b}, method="x")
    write(tmp_path / "results" / "c", {"top1": right(0.2, 3)}, method="low")
    (tmp_path / "results" / "c" / "predictions-knn.npz").write_bytes(b"damaged")
    build_report(tmp_path / "results", tmp_path / "report")
    file = tmp_path / "report" / "tables" / "linear-knn-few-embedded.md"
    p = scipy.stats.binomtest(12, 12).pvalue
    # The damaged one is no test, so there is nothing to adjust for.
    scores = f"over x ({100 * a.mean():.1f} against {100 * b.mean():.1f})"
    assert f"{scores}, p = {p:.4f}." in file.read_text("utf-8")
    # What another evaluation wrote over it says nothing of this record.
    wrong = Predictions(files=FILES, classes=(), labels_M=a, predicted={}, correct={"top1": a})
    wrong.write(tmp_path / "results" / "b" / "predictions-knn.npz")
    build_report(tmp_path / "results", tmp_path / "report")
    text = file.read_text("utf-8")
    assert "No test was possible in k-NN" in text
    assert (
        "not tested against the best: a file of predictions is damaged or not its record's" in text
    )


def test_predictions_outside_the_records_folder_or_damaged_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    out = result(
        artifacts={"evidence": "../b/predictions-knn.npz"},
        evidence="predictions",
        data={"images": M},
    )
    write_result(out, tmp_path / "c")
    with pytest.raises(InputError, match="out of the record's folder"):
        compared(tmp_path / "c", tmp_path / "b")
    (tmp_path / "b" / "predictions-knn.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"predictions-knn\.npz"):
        compared(tmp_path / "a", tmp_path / "b")


def test_a_folder_of_several_methods_is_refused(tmp_path: Path) -> None:
    for method in ("one", "two"):
        write_result(result(method=method, checkpoint={"digest": method}), tmp_path / "a")
    write_result(result(), tmp_path / "b")
    with pytest.raises(InputError, match="several methods: one, vit_tiny_patch8; two, vit_tiny"):
        compared(tmp_path / "a", tmp_path / "b")


def test_the_table_holds_the_numbers(tmp_path: Path) -> None:
    a, b = np.ones(M, np.int8), np.ones(M, np.int8)
    a[:40], b[30:110] = 0, 0
    write(tmp_path / "a", {"top1": a})
    write(tmp_path / "b", {"top1": b}, method="x\x1b[2J")
    text = comparison_text(compare(tmp_path / "a", tmp_path / "b").attrs)
    assert "\x1b" not in text
    row = next(line for line in text.splitlines() if line.startswith("top-1"))
    # 30 images wrong in A alone, 70 in B alone: p = 2 P(binomial(100, 1/2) <= 30).
    assert row.split("  ")[0] == "top-1 [%]"
    words = "90.00 [86.67, 92.57]  80.00 [75.80, 83.63]  +10.00 [+5.21, +14.89]"
    assert words in row
    assert row.endswith("7.9e-05   7.9e-05  A is better")
    assert "adjusted for the one test above" in text


def test_the_command_prints_and_writes_json(micl_bench: Run, tmp_path: Path) -> None:
    ours = write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    record = tmp_path / "a" / f"{ours.id}.json"
    done = micl_bench("compare", record, "b", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "A is better" in done.stdout
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["contenders"][0]["records"] == [ours.id]
    (found,) = content["comparisons"]
    assert found["verdict"] == "A is better"
    assert found["ours"]["values"] == [ours.values["top1"]]
    done = micl_bench("compare", "a")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: 1 given to compare; needed: 2 to 26"
    done = micl_bench("compare", "a", "nowhere")
    assert done.returncode == 2
    assert "no results folder at nowhere" in done.stderr


def test_it_imports_neither_torch_nor_the_report_extra(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    code = (
        "import sys; from micl_bench.cli.app import invoke; "
        f"invoke(['compare', {str(tmp_path / 'a')!r}, {str(tmp_path / 'b')!r}]); "
        "assert not {'torch', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
