"""Which rows and columns the readers' tables have: published numbers, stand-ins, ablations, names."""

import dataclasses
from pathlib import Path

import pytest
from support import REPOSITORY, Run
from synthetic_results import SHIFTED, result
from tables_of import HOURS, KNN, OURS, built, column, of, published, trained, tuned

from micl_bench.records.published import read_references
from micl_bench.records.result import Result
from micl_bench.records.store import read_results
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import all_specs, build_tables, published_tables
from micl_bench.report.tables.model import Row, Table
from micl_bench.report.tables.specs._spec import FactColumn


def rows(table: Table, kind: str) -> list[Row]:
    return [row for row in table.rows if row.kind == kind]


def test_every_number_of_the_ledger_is_in_a_table_with_its_protocol_and_source() -> None:
    references = {one.id: one for one in read_references()}
    seen = set()
    for table in published_tables(list(references.values())):
        notes = dict(table.footnotes)
        for row in table.rows:
            assert row.kind == "published"
            for cell in row.cells:
                (one,) = [references[identity] for identity in cell.records] or [None]
                if one is None or cell.mark == "":
                    continue
                seen.add(one.id)
                assert cell.text.startswith(one.text)
                assert notes[cell.mark].startswith(one.protocol)
                assert row.source == one.source or one.source in notes[cell.mark]
                assert not cell.best
                assert not cell.tied
    assert seen == set(references)


def test_our_published_numbers_are_two_and_all_else_is_not_known() -> None:
    tables = published_tables(read_references())
    assert len(tables) == 6
    numbers = []
    for table in tables:
        (row,) = [row for row in table.rows if row.label == "MiCL (as OCL)"]
        known = ("network", "input [px]", "images")
        cells = zip(table.columns, row.cells, strict=True)
        told = [c for one, c in cells if one.header not in known and c.kind != "missing"]
        numbers += [cell.text for cell in told]
        assert all(cell.text == "n/a" for cell in row.cells if cell.kind == "missing")
    assert sorted(numbers) == ["133", "133", "85.8"]


def test_published_and_measured_numbers_have_rows_of_their_own() -> None:
    mae = published()
    table = built(tuned(method="MAE", metrics={"top1": 83.1}), references=[mae, OURS, HOURS])[
        "finetune"
    ]
    (measured,), (ours, theirs) = rows(table, "measured"), rows(table, "published")
    assert (measured.label, ours.label, theirs.label) == ("MAE", "MiCL (as OCL)", "MAE")
    assert theirs.source == mae.source
    top1 = column(dataclasses.replace(table, rows=(measured,)), "top-1 [%]")["MAE"]
    assert top1.text == "83.1"
    assert not any(cell.best for row in table.rows for cell in row.cells)
    assert all(
        len({identity.startswith("published-") for identity in cell.records}) < 2
        for row in table.rows
        for cell in row.cells
    )
    hours = column(dataclasses.replace(table, rows=(ours,)), "hours")["MiCL (as OCL)"]
    assert (hours.text, hours.kind) == ("133", "published")


def test_only_networks_that_were_measured_have_published_rows_beside_them() -> None:
    large = published(id="published-c", arch="ViT-L/16")
    tables = built(tuned(), references=[published(), large])
    assert len(rows(tables["finetune"], "published")) == 1
    assert len(tables["finetune-published"].rows) == 2


def test_stand_ins_never_stand_beside_published_numbers() -> None:
    data = {"name": "embedded", "stands_for": "ImageNet"}
    tables = built(tuned(data=data, method="MAE"), references=[published(), OURS])
    assert set(tables) == {"finetune-embedded", "finetune-published"}
    table = tables["finetune-embedded"]
    assert rows(table, "published") == []
    assert table.stands_for == (("embedded", "ImageNet"),)
    assert table.title.endswith(": embedded, a stand-in")
    assert not any(
        "ublished" in line for row in table.rows for c in row.cells for line in c.details
    )


def test_a_subset_of_a_public_set_is_no_public_set() -> None:
    tables = built(
        tuned(data={"name": "imagenet", "split": "val", "images": 100}), references=[published()]
    )
    assert "finetune" not in tables
    (table,) = [table for name, table in tables.items() if not name.endswith("-published")]
    assert rows(table, "published") == []


def test_two_protocols_of_one_published_network_are_two_rows() -> None:
    other = published(id="published-d", protocol="50 epochs", value=83.0)
    (table,) = published_tables([published(), other])
    assert [[c.text for c in row.cells if c.kind == "published"] for row in table.rows] == [
        ["1600", "83.6"],
        ["1600", "83"],
    ]
    assert [text for _, text in table.footnotes] == ["end to end, 100 epochs", "50 epochs"]


def test_costs_of_several_sources_are_not_chosen_from() -> None:
    cost = published(
        task="pretrain_cost",
        metric="wall_hours",
        unit="hours",
        value=31.0,
        protocol="TPU",
        id="published-e",
    )
    again = dataclasses.replace(cost, protocol="GPU", value=42.0, id="published-f")
    one, two = (published_tables([published(), *costs])[0] for costs in ([cost], [cost, again]))
    assert column(one, "hours")["MAE"].text == "31"
    assert "hours" not in [one.header for one in two.columns]


def test_shifted_sets_of_one_network_share_its_row() -> None:
    records = [
        result(
            task="robustness",
            method=method,
            metrics={"top1": top1, "clean_top1": clean, "drop": clean - top1},
            data={"name": f"embedded-{name}", "stands_for": f"ImageNet-{name}"},
        )
        for name, methods in SHIFTED.items()
        for method, (top1, clean) in methods.items()
    ]
    table = built(*records)["robustness-embedded"]
    assert [row.label for row in table.rows] == ["MiCL", "from scratch", "random weights"]
    groups = [one.group for one in table.columns if one.header == "drop [points]"]
    # Under their own names: they only stand in for the public ones.
    assert groups == ["embedded-A", "embedded-R", "embedded-Sketch"]
    (drop,) = [
        i
        for i, c in enumerate(table.columns)
        if (c.group, c.header) == ("embedded-R", "drop [points]")
    ]
    assert table.rows[0].cells[drop].text == "32.4"
    # A model at chance has nothing to lose: drops are not ranked.
    assert not any(row.cells[drop].best for row in table.rows)


def test_measured_and_published_numbers_of_imagenet_v2_share_no_column() -> None:
    """It is three sets; published numbers do not say of which."""
    made = [
        result(
            task="robustness",
            method="DINOv2",
            arch="vit_small_patch14_dinov2",
            metrics={"top1": 70.0, "clean_top1": 81.0, "drop": 11.0},
            data={"name": f"imagenet-v2-{name}", "split": "all", "images": 10_000},
        )
        for name in ("matched-frequency", "threshold-0.7", "top-images")
    ]
    table = built(*made, references=read_references())["robustness"]
    kinds: dict[str, set[str]] = {}
    for number, one in enumerate(table.columns):
        if "V2" in one.group:
            found = {row.cells[number].kind for row in table.rows} - {"missing"}
            kinds.setdefault(one.group, set()).update(found)
    assert kinds == {
        "ImageNet-V2, set not stated": {"published"},
        "ImageNet-V2, matched frequency": {"measured"},
        "ImageNet-V2, threshold 0.7": {"measured"},
        "ImageNet-V2, top images": {"measured"},
    }


def test_rows_of_one_method_are_told_apart_by_what_differs() -> None:
    short, long = trained(0), trained(1, epochs=40)
    cells = column(built(of(0, 80.0, short), of(1, 81.0, long))[KNN], "k-NN")
    assert {label: cell.text for label, cell in cells.items()} == {
        "MiCL, epochs 10": "80.0",
        "MiCL, epochs 40": "81.0",
    }


def test_an_older_recipe_has_a_row_and_a_note() -> None:
    table = built(
        result(metrics={"top1": 70.0}), result(recipe_digest="f" * 60, metrics={"top1": 75.0})
    )[KNN]
    found = [(row.cells[-1].text, row.cells[-1].mark) for row in table.rows]
    assert [text for text, _ in found] == ["75.0", "70.0"]
    notes = dict(table.footnotes)
    assert "an older recipe of the same protocol" in [notes[m] for m in found[1][1].split(",")]


@pytest.mark.parametrize(("share", "header"), [(0.01, "1 % of labels"), (0.1, "10 % of labels")])
def test_few_labels_have_columns_of_their_own(share: float, header: str) -> None:
    drawn = {"labels": {"drawn by seed, share of each class": share}}
    listed = {"labels": {"list": "a" * 64, "images": round(share * 1_281_167)}}
    for settings in (drawn, listed):
        table = built(
            result(task="logistic", settings=settings, metrics={"top1": 50.0}),
            result(task="logistic", settings={"labels": "all"}, metrics={"top1": 60.0}),
        )[KNN]
        assert column(table, header)["MiCL"].text == "50.0"
        assert column(table, "logistic regression")["MiCL"].text == "60.0"


def pretraining(seed: int, *, ratio: float, temperature: float = 0.07) -> Result:
    settings = {"mask_ratio": ratio, "temperature": temperature}
    score = 80.0 + 10 * ratio + seed - 20 * (temperature != 0.07)
    stage = trained(seed, objective=settings)
    return of(seed, score, stage)


def test_an_ablation_holds_networks_that_differ_in_its_setting_alone() -> None:
    records = [pretraining(seed, ratio=ratio) for ratio in (0.75, 0.5, 0.9) for seed in (0, 1)]
    records.append(pretraining(0, ratio=0.75, temperature=0.2))
    tables = built(*records)
    ratios = tables["ablations-mask-ratio-embedded"]
    assert ratios.columns[0].header == "mask ratio"
    assert [row.cells[0].value for row in ratios.rows] == [0.5, 0.75, 0.9]
    cells = [row.cells[-1] for row in ratios.rows]
    assert [cell.text for cell in cells] == ["85.5 ± 0.7", "88.0 ± 0.7", "89.5 ± 0.7"]
    # 0.75 is in both studies, so the others are variants of it.
    assert [cell.delta for cell in cells] == ["-2.5", "", "+1.5"]
    assert cells[0].difference == "-2.5 points against mask ratio 0.75"
    heat = tables["ablations-temperature-embedded"]
    assert [row.cells[0].value for row in heat.rows] == [0.07, 0.2]
    assert [row.cells[-1].text for row in heat.rows] == ["88.0 ± 0.7", "67.5"]
    assert "ablations-epochs-embedded" not in tables


def test_the_cost_of_a_pre_training_comes_from_its_record() -> None:
    stage = trained(3, epochs=25)
    made = result(
        task="pretrain",
        seed=3,
        settings=stage.settings,
        data={"digest": stage.data_digest},
        metrics={"images_per_second": 500.0},
        device_hours=8.0,
        seconds=7200.0,
        environment={"gpus": "4 x A100"},
        checkpoint={"digest": "9" * 64, "origin": (stage,)},
    )
    tables = built(made, of(0, 80.0, stage, task="finetune"))
    (row,) = tables["finetune-embedded"].rows
    cells = dict(
        zip([c.header for c in tables["finetune-embedded"].columns], row.cells, strict=True)
    )
    assert [cells[h].text for h in ("epochs", "device-hours", "hours")] == ["25", "8", "2"]
    assert cells["hours"].records == (
        dataclasses.replace(made, start="2025-05-01T00:00:00+00:00").id,
    )
    cost = tables["efficiency-embedded"]
    assert column(cost, "hardware")["MiCL"].text == "4 x A100"
    # What today's record lacks has no column, rather than a zero.
    assert "MFU [%]" not in [one.header for one in cost.columns]


def test_a_real_pretraining_fills_every_measured_column_of_costs(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    recipe = REPOSITORY / "pretrain" / "embedded.py"
    sets = ("--set", "epochs=2", "--set", "knn_every_epochs=0", "--set", "batch_size=16")
    done = micl_bench("pretrain", recipe, *sets, "--data", few_digits, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (made,) = read_results(tmp_path / "out")
    (table,) = build_tables(select([made]), [])
    cells = dict(zip([one.header for one in table.columns], table.rows[0].cells, strict=True))
    for header, metric in (
        ("images/s", "images_per_second"),
        ("MFU [%]", "mfu"),
        ("memory [MiB]", "peak_memory_mib"),
    ):
        assert cells[header].value == made.values[metric] > 0
        assert cells[header].records == (made.id,)
    assert cells["hours"].value == made.seconds / 3600
    assert cells["device-hours"].value == made.device_hours


def test_specs_are_found_by_file_name() -> None:
    specs = all_specs()
    assert list(specs)[:2] == ["finetune", "linear-knn-few"]
    for spec in specs.values():
        assert any(isinstance(one, FactColumn) and one.fact == "arch" for one in spec.columns)


def test_the_same_records_give_the_same_tables() -> None:
    records = [pretraining(seed, ratio=ratio) for ratio in (0.75, 0.5) for seed in (0, 1)]
    assert built(*records) == built(*records)
