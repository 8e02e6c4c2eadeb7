import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import result

from micl_bench.record import DataSet, Result
from micl_bench.report.selection import select
from micl_bench.report.task_table import Table, build_table


def _texts(table: Table) -> dict[str, list[str]]:
    return {
        row.label + row.footnote: [
            (cell.text + ("*" if cell.best else "")) if cell else "" for cell in row.cells
        ]
        for row in table.rows
    }


def _on(day: int, **changes: object) -> Result:
    return dataclasses.replace(result(**changes), start=f"2025-05-{day:02d}T10:00:00+00:00")


def test_ours_first_and_best_marked() -> None:
    table = build_table(
        [
            result(method="alpha", metrics={"top1": 81.0, "loss": 1.0}),
            result(metrics={"top1": 80.0, "loss": 2.0}),
        ]
    )
    assert list(_texts(table).items()) == [
        ("MiCL", ["80.0", "2"]),
        ("alpha", ["81.0*", "1"]),
    ]
    assert table.footnotes == {}
    assert table.groups[0].headers == ["top-1 [%]", "loss"]


def test_equal_best_values_are_both_marked_and_a_lone_one_is_not() -> None:
    both = build_table([result(), result(method="alpha")])
    assert _texts(both) == {"MiCL": ["80.0*"], "alpha": ["80.0*"]}
    assert _texts(build_table([result()])) == {"MiCL": ["80.0"]}


def test_not_a_number_is_a_dash_and_never_best() -> None:
    table = build_table(
        [result(metrics={"top1": math.nan}), result(method="a"), result(method="b")]
    )
    assert _texts(table) == {"MiCL": ["–"], "a": ["80.0*"], "b": ["80.0*"]}


def test_sets_of_one_method_share_its_row_even_when_their_recipes_differ() -> None:
    metrics = {"top1": 40.0, "clean_top1": 90.0, "drop": 50.0, "top1_of_1000": 30.0}
    metrics["clean_top1_of_1000"] = 80.0
    bounds = {"top1": [38.0, 42.0], "drop": [47.5, 52.5], "clean_top1": [88.5, 91.4]}
    records = [
        result(
            method=method,
            metrics=metrics,
            intervals=bounds,
            data={"name": name},
            recipe_digest=name * 20,
        )
        for name in ("set-A", "set-R")
        for method in ("MiCL", "other")
    ]
    table = build_table(records)
    assert _texts(table) == {
        "MiCL": ["40.0*", "50.0", "40.0*", "50.0"],
        "other": ["40.0*", "50.0", "40.0*", "50.0"],
    }
    assert [cell.details for cell in table.rows[0].cells[:2] if cell] == [
        ["38.0–42.0", "of all 1,000: 30.0"],
        ["47.5–52.5", "from 90.0", "(88.5–91.4)", "of all 1,000: from 80.0"],
    ]


def test_of_a_metric_where_lower_is_better_the_lowest_is_marked() -> None:
    table = build_table([result(metrics={"mCE": 50.0}), result(method="x", metrics={"mCE": 60.0})])
    assert _texts(table) == {"MiCL": ["50.0*"], "x": ["60.0"]}


def test_protocols_that_differ_get_rows_and_footnotes() -> None:
    table = build_table(
        [
            result(protocol="b: at 96 px", metrics={"top1": 85.0}),
            result(protocol="a: at 64 px", metrics={"top1": 80.0}),
            result(protocol="a: at 64 px", method="other", metrics={"top1": 70.0}),
        ]
    )
    assert _texts(table) == {"MiCLa": ["80.0*"], "MiCLb": ["85.0"], "othera": ["70.0"]}
    assert table.footnotes == {"a": "a: at 64 px", "b": "b: at 96 px"}


def test_equal_words_with_different_fingerprints_never_share_a_column_unmarked() -> None:
    full = {"task": "knn", "precision": "float32", "pixels": {"size": 64, "crop": 0.9}}
    half = {"task": "knn", "precision": "bfloat16", "pixels": {"size": 64, "crop": 1.0}}
    table = build_table(
        [
            result(settings=full, metrics={"top1": 80.0}),
            result(settings=half, metrics={"top1": 85.0}),
            result(settings=full, method="other", metrics={"top1": 70.0}),
            # On another set, only one of the two: it belongs into the same row.
            result(settings=full, method="other", metrics={"top1": 60.0}, data={"name": "more"}),
        ]
    )
    assert _texts(table) == {
        "MiCLa": ["85.0", ""],
        "MiCLb": ["80.0*", ""],
        "otherb": ["70.0", "60.0"],
    }
    words = "k-NN, k = 20, cosine, temperature 0.07, 64 px"
    assert table.footnotes == {
        "a": f"{words}; precision: bfloat16; pixels.crop: 1.0",
        "b": f"{words}; precision: float32; pixels.crop: 0.9",
    }


def test_settings_that_follow_the_data_set_need_no_mark() -> None:
    table = build_table(
        [
            result(settings={"classes": "200"}, data={"name": "set-A"}),
            result(settings={"classes": "199"}, data={"name": "set-R"}),
        ]
    )
    assert _texts(table) == {"MiCL": ["80.0", "80.0"]}
    assert table.footnotes == {}


def test_long_settings_are_told_apart_by_a_digest() -> None:
    grid = list(range(100))
    tables = build_table(
        [result(settings={"grid": grid}), result(settings={"grid": [*grid[:-1], 7]}, method="x")]
    )
    a, b = tables.footnotes.values()
    assert a != b
    assert "grid: [0, 1, 2" in a
    assert "(digest " in b
    assert len(a) < 130


def test_seeds_and_architectures_are_told_apart() -> None:
    table = build_table([result(seed=1), result(seed=0), result(method="x", arch="vit_base")])
    assert [row.label for row in table.rows] == [
        "MiCL, vit_tiny_patch8, seed 0",
        "MiCL, vit_tiny_patch8, seed 1",
        "x, vit_base",
    ]


def test_same_name_with_other_images_is_another_column() -> None:
    table = build_table([result(), result(method="other", data={"digest": "e" * 64})])
    assert [group.label for group in table.groups] == [
        "embedded (test, 900 images, ddddddd)",
        "embedded (test, 900 images, eeeeeee)",
    ]
    assert not any(cell.best for row in table.rows for cell in row.cells if cell)


def test_the_newest_record_of_a_measurement_is_shown() -> None:
    old, new = _on(1, metrics={"top1": 70.0}), _on(2, metrics={"top1": 75.0})
    other = _on(3, recipe_digest="f" * 60, metrics={"top1": 72.0})
    selection = select([(Path("r.json"), record) for record in (old, new, other)])
    assert selection.current == [new, other]
    assert selection.replaced_by == {old.id: new}
    assert _texts(build_table(selection.of_task("knn"))) == {
        "MiCL": ["72.0"],
        "MiCL, older recipe 1": ["75.0*"],
    }


def test_a_record_of_another_fingerprint_is_not_superseded() -> None:
    old, new = _on(1, settings={"precision": "float32"}), _on(2, settings={"precision": "bfloat16"})
    selection = select([(Path("r.json"), record) for record in (old, new)])
    assert selection.current == [old, new]
    assert selection.replaced_by == {}


def test_the_same_record_twice_counts_once() -> None:
    record = result()
    selection = select([(Path("a.json"), record), (Path("copy/a.json"), record)])
    assert selection.current == [record]
    assert selection.replaced_by == {}


TRAIN = DataSet(name="train", split="train", images=1800, digest="t" * 64)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": {"branch": "teacher"}},
        {"checkpoint": {"positions": "fixed sin-cos"}},
        {"checkpoint": {"normalisation": "0.5 0.5 0.5 / 0.5 0.5 0.5"}},
        {"checkpoint": {"network": "12 heads"}},
        {"train": TRAIN},
    ],
)
def test_another_network_or_other_training_images_are_another_measurement(
    change: dict[str, Any],
) -> None:
    old, new = _on(1, metrics={"top1": 70.0}), _on(2, metrics={"top1": 75.0}, **change)
    records = [(Path("r.json"), record) for record in (old, new)]
    selection = select(records)
    assert selection.current == [old, new]
    labels = [row.label + row.footnote for row in build_table(selection.of_task("knn")).rows]
    assert len(set(labels)) == 2
    moved = dataclasses.replace(
        new, checkpoint=dataclasses.replace(new.checkpoint, source="elsewhere.pt")
    )
    again = dataclasses.replace(moved, start="2025-05-03T10:00:00+00:00")
    assert select([*records, (Path("again.json"), again)]).current == [old, again]


def test_other_training_images_are_said_in_the_footnotes() -> None:
    few = dataclasses.replace(TRAIN, images=180, digest="f" * 64)
    table = build_table([result(train=TRAIN), result(train=few, method="x")])
    words = "k-NN, k = 20, cosine, temperature 0.07, 64 px; trained on"
    assert list(table.footnotes.values()) == [
        f"{words} 1,800 images of train, split train, digest tttttttttttt",
        f"{words} 180 images of train, split train, digest ffffffffffff",
    ]
    assert not any(cell.best for row in table.rows for cell in row.cells if cell)
    assert build_table([result(train=TRAIN), result(train=TRAIN, method="x")]).footnotes == {}


def test_rows_of_one_method_say_what_differs() -> None:
    def rows(*changes: dict[str, Any]) -> list[str]:
        return [row.label for row in build_table([result(**change) for change in changes]).rows]

    one, other = {"digest": "a" * 60}, {"digest": "b" * 60}
    assert rows({"checkpoint": one}, {"checkpoint": other}) == [
        "MiCL, weights aaaaaaa",
        "MiCL, weights bbbbbbb",
    ]
    assert rows({"checkpoint": {"branch": "teacher"}}, {"checkpoint": {"branch": "student"}}) == [
        "MiCL, student",
        "MiCL, teacher",
    ]
    probe, tuned = {"classifier": "linear probe"}, {"classifier": "fine-tuned, avg"}
    assert rows(
        {"settings": probe, "checkpoint": one}, {"settings": tuned, "checkpoint": other}
    ) == [
        "MiCL, fine-tuned, avg",
        "MiCL, linear probe",
    ]
    assert rows({}, {"method": "x", "checkpoint": other}) == ["MiCL", "x"]


def test_a_head_chosen_on_the_evaluated_images_is_said() -> None:
    chosen = {"selection": "best of grid on the evaluated images"}
    held = {"selection": "best of grid on 10% of each class's training images, held out"}
    for settings, words in ((chosen, ["best of 3 heads"]), (held, [])):
        made = result(settings=settings, details={"grid": [{}, {}, {}]}, intervals={})
        (cell,) = build_table([made]).rows[0].cells
        assert cell is not None
        assert cell.details == words
