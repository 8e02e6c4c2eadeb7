"""A task and its metrics are declared once, and the declaration is read without torch."""

import subprocess
import sys

import pytest

from micl_bench.records.declared import About, Measure, Metric, Task
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import PRETRAINING, declared, declared_tasks, running


def test_declarations_are_read_without_torch_and_runs_are_not() -> None:
    script = (
        "import sys; from micl_bench.tasks import declared_tasks, Task, Metric, Request;"
        "print(len(declared_tasks()), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(len(plugins.names("tasks")) + 1), "False"]


@pytest.mark.parametrize("name", declared_tasks())
def test_every_task_declares_what_is_quoted_of_it(name: str) -> None:
    task = declared(name)
    assert task.name == name
    assert len({metric.name for metric in task.metrics}) == len(task.metrics)
    assert all(metric.better for metric in task.metrics if metric.quoted)
    assert any(metric.quoted for metric in task.metrics) or not task.downstream
    if task is not PRETRAINING:
        assert callable(running(name).run)


def test_a_family_of_metrics_is_one_declaration() -> None:
    knn, robustness = declared("knn"), declared("robustness")
    assert knn.measure("top1_k200") == Measure(title="k = 200", unit="%", better="higher")
    assert robustness.measure("top1_of_1000").header == "top-1 of all 1,000 [%]"
    assert robustness.measure("clean_top1_of_1000").beside == "clean_top1"
    assert declared("coco").measure("mask_AP75").title == "mask AP75"


@pytest.mark.parametrize(
    ("task", "metric", "header"),
    [
        ("knn", "top1", "top-1 [%]"),
        ("knn", "top1_k10", "k = 10 [%]"),
        ("robustness", "clean_top1_of_10", "clean top-1 of all 10 [%]"),
        ("robustness", "real_top1", "ReaL top-1 [%]"),
        ("robustness", "mCE", "mCE [%]"),
        ("robustness", "drop", "drop [points]"),
        ("pretrain", "loss", "loss"),
        ("pretrain", "mfu", "MFU [%]"),
        ("pretrain", "peak_memory_mib", "peak memory [MiB]"),
    ],
)
def test_headers_name_the_unit(task: str, metric: str, header: str) -> None:
    assert declared(task).measure(metric).header == header


def test_directions_are_claimed_only_where_they_are_known() -> None:
    better = {
        (task.name, metric.name): metric.better
        for task in declared_tasks().values()
        for metric in task.metrics
    }
    assert [name for name in better if better[name] == "lower"] == [("robustness", "mCE")]
    assert not any(better["representation", m.name] for m in declared("representation").metrics)
    assert better["robustness", "drop"] == better["pretrain", "loss"] == ""


def test_the_declared_name_itself_goes_before_a_family() -> None:
    exact = Metric(name="f1", title="F1", better="higher")
    family = Metric(name="f{beta}", title="F with beta = {beta}", better="higher")
    task = Task(name="t", title="T", metrics=(exact, family))
    assert task.measure("f1").title == "F1"
    assert task.measure("f2").title == "F with beta = 2"


def test_a_metric_that_is_not_declared_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match="'f1', which it does not declare; declared: top1, top5"):
        declared("linear").measure("f1")


def test_all_but_name_title_and_metrics_has_a_default() -> None:
    task = Task(name="t", title="Title", metrics=(Metric(name="m", title="m"),))
    assert task.about == About(title="Title")
    assert task.about.label == "Title"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("%", 81.34, "81.3"),
        ("points", -2.05, "-2.0"),
        ("", 1234.5, "1,234"),
        ("", 0.12345, "0.1235"),
    ],
)
def test_values_are_printed_by_their_unit(unit: str, value: float, text: str) -> None:
    assert Measure(title="m", unit=unit).text(value) == text


def test_what_is_not_finite_is_a_dash_and_signs_are_not_taken_for_one() -> None:
    drop = Measure(title="drop", unit="points")
    assert drop.text(float("nan")) == "–"
    assert drop.interval_text((1.0, 2.0)) == "1.0–2.0"
    assert drop.interval_text((-1.0, 2.0)) == "-1.0 to 2.0"
