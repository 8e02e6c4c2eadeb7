"""`micl-bench compare`: counts by hand, SciPy's tests, and what is printed."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from predicted_results import EVIDENCE, FILES, M, compared, overwrite, right, write
from support import Run
from synthetic_results import changed, result

from micl_bench.records.result import read_result, write_result
from micl_bench.records.statistics import holm, paired_difference_interval, t_interval, wilson
from micl_bench.report import build_report
from micl_bench.report.compare.comparison_output import compare, comparison_text
from micl_bench.runtime.errors import InputError


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


def test_tasks_of_one_fingerprint_have_a_heading_each(tmp_path: Path) -> None:
    for name, share in (("a", 0.8), ("b", 0.6)):
        for task in ("knn", "linear"):
            write(tmp_path / name / task, {"top1": right(share, 0)}, task=task, method=name)
    table = compare(tmp_path / "a", tmp_path / "b")
    assert table["fingerprint"].nunique() == 1
    headings = [line for line in comparison_text(table.attrs).splitlines() if "400 images" in line]
    assert [line.partition(" on ")[0] for line in headings] == ["k-NN", "Linear probe"]


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


def test_the_report_takes_the_paired_tests_that_evidence_allows(tmp_path: Path) -> None:
    # Intervals overlap, yet on the same images one is better.
    a = right(0.7, 0)
    b = a.copy()
    b[np.flatnonzero(a)[:12]] = 0
    write(tmp_path / "results" / "a", {"top1": a})
    write(tmp_path / "results" / "b", {"top1": b}, method="x")
    write(tmp_path / "results" / "c", {"top1": right(0.2, 3)}, method="low")
    (tmp_path / "results" / "c" / EVIDENCE).write_bytes(b"damaged")
    build_report(tmp_path / "results", tmp_path / "report")
    file = tmp_path / "report" / "tables" / "linear-knn-few-embedded.md"
    p = scipy.stats.binomtest(12, 12).pvalue
    # The damaged one is no test, so there is nothing to adjust for.
    scores = f"over x ({100 * a.mean():.1f} against {100 * b.mean():.1f})"
    assert f"{scores}, p = {p:.4f}." in file.read_text("utf-8")
    # What another evaluation wrote over it says nothing of this record.
    overwrite(tmp_path / "results" / "b", {"top1": a}, labels_M=a)
    build_report(tmp_path / "results", tmp_path / "report")
    text = file.read_text("utf-8")
    assert "No test was possible in k-NN" in text
    assert (
        "not tested against the best: a file of predictions is damaged or not its record's" in text
    )


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


def test_the_command_prints_and_writes_json(micl_bench: Run, pair: Path) -> None:
    (record,) = (pair / "a").glob("*.json")
    ours = read_result(record)
    done = micl_bench("compare", record, "b", "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "A is better" in done.stdout
    content = json.loads((pair / "out.json").read_text())
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


def test_it_imports_neither_torch_nor_the_report_extra(pair: Path) -> None:
    code = (
        "import sys; from micl_bench.cli.app import invoke; "
        f"invoke(['compare', {str(pair / 'a')!r}, {str(pair / 'b')!r}]); "
        "assert not {'torch', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
