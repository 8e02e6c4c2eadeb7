"""What the page and its Markdown say, read as text; `tests/browser` has it in a browser."""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_reader import Page
from synthetic_results import SCORES, SHIFTED, changed, result

from micl_bench.records.published import read_references
from micl_bench.records.result import Result, write_result
from micl_bench.records.store import read_store
from micl_bench.report import build_report
from micl_bench.report.write.cards import plain

ATTACK = "</script><script>alert(1)</script>"
CONTROL = "a\u202e\x1b[2Jb\x07\x9b\u2028"
SHARED = ("data", "training images", "checkpoint", "origin", "settings", "recipe", "environment")


def _page(folder: Path, *results: Result) -> tuple[Page, str]:
    for made in results:
        write_result(made, folder / "results")
    html = build_report(folder / "results", folder / "report").read_text(encoding="utf-8")
    return Page(html), html


def _unpacked(html: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records and published numbers in a page's card data, by another reading of its form."""
    text = re.search(r'<script type="application/json" id="cards">(.*?)</script>', html, re.S)
    assert text
    data = json.loads(text[1])
    for card in data["records"]:
        for name in SHARED:
            card[name] = data["parts"][card[name]]
    return data["records"], data["published"]


def test_cards_hold_the_whole_evidence_of_each_record(
    demo_results: Path, demo_report: Path
) -> None:
    shown, _ = _unpacked(demo_report.read_text(encoding="utf-8"))
    for told, card in zip(read_store(demo_results).records, shown, strict=True):
        assert card["id"] == told.id
        assert card["file"] == told.path.relative_to(demo_results).as_posix()
        for name in ("settings", "recipe", "environment", "command", "seed", "protocol", "start"):
            assert card[name] == getattr(told, name)
        assert card["data"] == dataclasses.asdict(told.data)
        assert card["checkpoint"]["digest"] == told.checkpoint.digest
        numbers = {metric: number for _, _, _, number, metric in card["metrics"]}
        assert numbers == pytest.approx(told.values, rel=1e-7)


def test_cards_of_published_numbers_are_those_that_cells_name(demo_report: Path) -> None:
    html = demo_report.read_text(encoding="utf-8")
    _, published = _unpacked(html)
    ledger = {reference.id: reference for reference in read_references()}
    assert len(published) > 100
    for card in published:
        assert card["value"] == ledger[card["id"]].value
        assert card["source"] == ledger[card["id"]].source
        assert f'href="#record-{card["id"]}"' in html


def test_every_link_leads_to_a_card_a_place_or_a_file(demo_report: Path) -> None:
    html = demo_report.read_text(encoding="utf-8")
    page = Page(html)
    known = {card["id"] for cards in _unpacked(html) for card in cards}
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#record-"):
            assert link.removeprefix("#record-") in known
        elif link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (demo_report.parent / link).is_file()
    current = {record.id for record in read_store(demo_report.parent.parent / "results").records}
    assert {f"#record-{identity}" for identity in current} <= set(page.links)


def test_cells_hold_the_records_numbers(demo_report: Path) -> None:
    page = Page(demo_report.read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.tables[0][2:]}
    place = {"knn": 1, "linear": 2, "finetune": 3, "A": 4, "R": 5, "Sketch": 6}
    for task, scores in SCORES.items():
        for method, metrics in scores.items():
            assert rows[method][place[task]].split()[0] == f"{metrics['top1']:.1f}"
    for name, shifted in SHIFTED.items():
        for method, (top1, _) in shifted.items():
            assert rows[method][place[name]].split()[0] == f"{top1:.1f}"
    assert rows["from scratch"][:3] == ["n/a"] * 3


def test_pictures_are_in_the_page_and_beside_it(demo_report: Path) -> None:
    page = Page(demo_report.read_text(encoding="utf-8"))
    names = [name.removeprefix("picture-") for name in page.ids if name.startswith("picture-")]
    assert {"scores", "effective-robustness", "views", "training"} <= set(names)
    folder = demo_report.parent / "figures"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "pdf")
    }
    assert all((folder / f"{name}.png").read_bytes()[1:4] == b"PNG" for name in names)
    assert all((folder / f"{name}.pdf").read_bytes()[:4] == b"%PDF" for name in names)
    markdown = (demo_report.parent / "report.md").read_text(encoding="utf-8")
    assert all(f"](figures/{name}.png)" in markdown for name in names)


def test_the_page_brings_no_style_or_handler_in_attributes(demo_report: Path) -> None:
    html = demo_report.read_text(encoding="utf-8")
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)
    assert not re.search(r"<[^>]*\s(style|on\w+)=", body)
    assert "unsafe-inline" not in html
    assert not Page(html).tags & {"link", "iframe", "object", "base", "form"}


def test_hostile_names_write_neither_html_nor_markdown(tmp_path: Path) -> None:
    evil = result(
        method=ATTACK,
        arch=CONTROL,
        protocol=ATTACK + CONTROL,
        command=f"run | {ATTACK}",
        data={"name": ATTACK + CONTROL, "split": CONTROL, "stands_for": ATTACK + CONTROL},
        settings={CONTROL: CONTROL},
        environment={ATTACK: ATTACK + CONTROL},
        metrics={ATTACK: 1.0, "top1": 3.0},
    )
    page, html = _page(
        tmp_path, evil, dataclasses.replace(evil, method="MiCL", task=ATTACK + CONTROL)
    )
    assert html.count("<script") == 2
    assert ATTACK in "".join(page.words)
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    for text in (html, markdown):
        assert not set(CONTROL) - set("a[2Jb") & set(text)
        assert "a??" in text
    cards, _ = _unpacked(html)
    assert cards[0]["command"] == f"run | {ATTACK}"


def test_real_sets_are_not_called_stand_ins(tmp_path: Path) -> None:
    _, html = _page(tmp_path, result(data={"name": "imagenet"}))
    assert "only stand in" not in html


def test_superseded_records_are_counted_and_keep_a_card(tmp_path: Path) -> None:
    old = result(metrics={"top1": 11.1})
    new = changed(old, metrics={"top1": 22.2}, start="2025-06-01T10:00:00+00:00")
    page, html = _page(tmp_path, old, new)
    assert "1 older record of the same measurement is superseded" in " ".join(page.words)
    assert not any("11.1" in cell for table in page.tables for row in table for cell in row)
    cards = {card["id"]: card for card in _unpacked(html)[0]}
    assert cards[old.id]["status"] == "superseded"
    assert cards[old.id]["superseded by"] == new.id
    assert cards[new.id]["status"] == "current"


def test_an_unknown_task_is_in_the_overview(tmp_path: Path) -> None:
    page, _ = _page(tmp_path, result(task="NYU depth", metrics={"rmse_metres": 0.4321}))
    assert page.tables[0][1:] == [["embedded rmse metres"], ["MiCL", "0.4321"]]


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


@pytest.mark.long
def test_the_same_records_give_the_same_bytes(demo_results: Path, tmp_path: Path) -> None:
    """In other processes, with other hashes, from another folder with other times and order."""
    (demo_results / "again").mkdir()
    shutil.copy(next(demo_results.rglob("knn*.json")), demo_results / "again")
    moved = tmp_path / "somewhere" / "else"
    for path in sorted(demo_results.rglob("*"), reverse=True):
        if path.is_file():
            target = moved / path.relative_to(demo_results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            os.utime(target, (1_000_000_000, 1_000_000_000))
    for seed, store, out in (("1", demo_results, "one"), ("2", moved, "two")):
        command = [sys.executable, "-m", "micl_bench", "report", "--results", str(store)]
        command += ["--out", str(tmp_path / out)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
    shutil.rmtree(demo_results / "again")
    one, two = dict(_files(tmp_path / "one")), dict(_files(tmp_path / "two"))
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.long
def test_a_page_of_a_thousand_records_stays_below_five_megabytes(tmp_path: Path) -> None:
    for number in range(1000):
        recipe = {"task": "knn", "k": [10, 20, 100, 200], "number": number // 3}
        record = result(seed=number % 3, recipe=recipe, settings=recipe | {"precision": "float32"})
        write_result(record, tmp_path / "results")
    html = build_report(tmp_path / "results", tmp_path / "report")
    assert html.stat().st_size < 5_000_000
    shown, _ = _unpacked(html.read_text(encoding="utf-8"))
    stored = {record.id: record for record in read_store(tmp_path / "results").records}
    assert len(shown) == len(stored) == 1000
    for card in shown[::97]:
        assert card["recipe"] == stored[card["id"]].recipe
        assert card["settings"] == stored[card["id"]].settings


def test_cards_hold_only_what_json_and_javascript_can() -> None:
    odd = {
        "nan": math.nan,
        "infinite": [math.inf],
        "seed": 2**60,
        "text": "a\u202eb\x00c",
        "in": 2**53,
    }
    assert plain(odd) == {
        "nan": "nan",
        "infinite": ["inf"],
        "seed": str(2**60),
        "text": "a?b?c",
        "in": 2**53,
    }


def test_parts_that_only_look_equal_are_kept_apart(tmp_path: Path) -> None:
    values = [1, True, 1.0, "1", None, [1], {"a": 1}]
    _, html = _page(tmp_path, *(result(settings={"k": value}) for value in values))
    found = [card["settings"]["k"] for card in _unpacked(html)[0]]
    assert sorted(map(repr, found)) == sorted(map(repr, values))
