"""What a suite calls a pre-training is its name in every table, figure, legend and caption."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pretrainings import Trainings
from synthetic_results import changed, recorded

from micl_bench.records.result import Result, write_result
from micl_bench.report import build_report
from micl_bench.report.figures.galleries import found_gallery
from micl_bench.report.figures.training_plot import found_training
from micl_bench.report.frame.identity import network_of
from micl_bench.report.frame.lineage import Lineage
from micl_bench.report.frame.selection import Selection, select
from micl_bench.report.tables.build import build_tables

NAMES = ("MiCL-50", "MiCL-75")


def suite() -> list[Result]:
    """Two pre-trainings of MiCL, two seeds each; their evaluations have the names of a suite."""
    trainings = Trainings()
    for name, ratio in zip(NAMES, (0.5, 0.75), strict=True):
        for seed in (0, 1):
            trainings.add(70.0 + seed + ratio, seed=seed, mask_ratio=ratio, method="MiCL")
            for place in (-2, -1):
                trainings.records[place] = dataclasses.replace(
                    trainings.records[place], method=name
                )
    return trainings.records


def selected(records: list[Result], folder: Path = Path()) -> Selection:
    return select(recorded(records, folder))


def test_a_pre_training_has_the_name_that_its_evaluations_have() -> None:
    records = suite()
    selection = selected(records)
    runs = selection.of_task("pretrain")
    assert sorted({run.method for run in runs}) == list(NAMES)
    assert {run.id for run in runs} == {one.id for one in records if one.task == "pretrain"}
    assert len({network_of(run) for run in runs}) == 4


def test_its_cost_is_still_found() -> None:
    selection = selected(suite())
    lineage = Lineage(selection.records)
    assert all(lineage.pretraining(one) for one in selection.of_task("knn"))


@pytest.mark.parametrize("names", [("one", "two"), ("MiCL", "MiCL"), ()])
def test_a_name_that_is_not_one_leaves_the_record_s(names: tuple[str, ...]) -> None:
    records = suite()[:3]
    for place, name in enumerate(names, 1):
        records[place] = dataclasses.replace(records[place], method=name)
    if not names:
        del records[1:]
    (run,) = selected(records).of_task("pretrain")
    assert run.method == "MiCL"


def test_tables_of_the_cost_and_legends_and_captions_have_it(tmp_path: Path) -> None:
    records = suite()
    for place, one in enumerate(records):
        if one.task == "pretrain":
            log, views = f"{place}.jsonl", f"{place}.npz"
            rows = [{"step": step, "loss": 1 / (1 + step)} for step in range(9)]
            (tmp_path / log).write_text("".join(json.dumps(row) + "\n" for row in rows))
            keep = np.zeros((2, 2, 4), dtype=int)
            images = np.zeros((2, 32, 32, 3), dtype=np.uint8)
            np.savez(tmp_path / views, images_NHWC=images, keep_NVK=keep, patch_size=8)
            records[place] = changed(
                one,
                metrics={"images_per_second": 9.0},
                artifacts={"metrics": log, "views": views},
            )
    selection = selected(records, tmp_path)
    (cost,) = [t for t in build_tables(selection, []) if t.name.startswith("efficiency")][:1]
    assert {row.label.partition(",")[0] for row in cost.rows} == set(NAMES)
    (curves,) = found_training(selection).drawings
    legend = [text.get_text() for text in curves.draw().legends[0].get_texts()]
    assert {words.partition(",")[0] for words in legend} == set(NAMES)
    (views_drawn,) = found_gallery("views", selection).drawings
    assert any(f"as {name} sees them" in views_drawn.caption for name in NAMES)
    for table in build_tables(selection, []):
        assert not [row for row in table.rows if row.label.partition(",")[0] == "MiCL"], table.name


def test_a_legend_names_the_setting_that_differs(tmp_path: Path) -> None:
    trainings = Trainings()
    for ratio in (0.5, 0.75):
        trainings.add(70.0, mask_ratio=ratio)
    runs = []
    for place, one in enumerate(one for one in trainings.records if one.task == "pretrain"):
        (tmp_path / f"{place}.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
        runs.append(dataclasses.replace(one, artifacts={"metrics": f"{place}.jsonl"}))
    (curves,) = found_training(selected(runs, tmp_path)).drawings
    legend = [text.get_text() for text in curves.draw().legends[0].get_texts()]
    assert sorted(legend) == ["MiCL, mask ratio 0.5", "MiCL, mask ratio 0.75"]


def test_the_page_has_no_other_name(tmp_path: Path) -> None:
    for one in suite():
        write_result(one, tmp_path / "results")
    build_report(tmp_path / "results", tmp_path / "report")
    csv = (tmp_path / "report" / "tables" / "provenance.csv").read_text(encoding="utf-8")
    methods = {line.split(",")[4] for line in csv.splitlines()[1:]}
    assert methods == set(NAMES)
