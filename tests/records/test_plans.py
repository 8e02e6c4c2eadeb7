"""Plans of suites: written, read back, refused where damaged; which records are stale."""

import json
from pathlib import Path

import pytest

from micl_bench.records.plans import Plan, PlannedRun, is_stale, plan_path, read_plans, write_plan


def planned(folder: str, **more: str) -> PlannedRun:
    values = {"name": "knn/MiCL", "task": "knn", "method": "MiCL", "data": "d", "state": "done"}
    return PlannedRun(seed=0, folder=folder, **(values | more))  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    plans = [
        Plan(
            suite="a", runs=(planned("knn/a"), planned("knn/b", state="failed", problem="ü\n<b>"))
        ),
        Plan(suite="b", runs=()),
    ]
    for plan in plans:
        write_plan(tmp_path, plan)
    assert read_plans(tmp_path) == (plans, [])
    assert read_plans(tmp_path / "nothing") == ([], [])


@pytest.mark.parametrize("name", ["../../x", "", "/etc/x", "a\0b", "x" * 1000, ".."])
def test_no_suites_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path = write_plan(tmp_path, Plan(suite=name, runs=()))
    assert path.parent == tmp_path / "plans"
    assert path == plan_path(tmp_path, name)
    assert read_plans(tmp_path)[0][0].suite == name


def test_a_record_is_stale_where_its_run_is_planned_in_another_folder(tmp_path: Path) -> None:
    made = {"knn/a": "n", "knn/old": "n", "knn/other_seed": "n/seed=1", "knn/cut": None}
    for place, name in made.items():
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "run.json").write_text(f'{{"name": "{name}"}}' if name else '{"na')
    (tmp_path / "mine").mkdir()
    plans = [Plan(suite="a", runs=()), Plan(suite="b", runs=(planned("knn/a", name="n"),))]
    places = {place: tmp_path / place / "r.json" for place in (*made, "mine")}
    assert {p for p, path in places.items() if is_stale(tmp_path, path, plans)} == {"knn/old"}
    assert not is_stale(tmp_path, places["knn/old"], [])
    assert not is_stale(tmp_path / "knn", places["mine"], plans)
    # Another suite that has a run of that name there keeps it.
    plans.append(Plan(suite="c", runs=(planned("knn/old", name="n"),)))
    assert not any(is_stale(tmp_path, path, plans) for path in places.values())


def refused(store: Path) -> str:
    """Why its only plan is damaged, in one line."""
    plans, (damaged,) = read_plans(store)
    assert plans == []
    assert damaged.reason.startswith("no plan of a suite: ")
    assert len(damaged.reason.splitlines()) == 1
    return damaged.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "other"}, "schema"),
        ({"runs": {}}, "$.runs is {}; needed: a list"),
        ({"runs": [1]}, "$.runs[0] is 1; needed: a mapping"),
        ({"suite": 5}, "$.suite is 5; needed: a text"),
        ({"suite": "x" * 30_000}, "needed: a text of at most 20,000"),
    ],
)
def test_a_damaged_plan_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = write_plan(tmp_path, Plan(suite="a", runs=()))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in refused(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"folder": "../out"},
        {"folder": "/etc"},
        {"folder": ""},
        {"seed": "0"},
        {"seed": True},
        {"state": "fine"},
        {"name": None},
        {"unknown": "x"},
    ],
)
def test_a_damaged_run_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_plan(tmp_path, Plan(suite="a", runs=(planned("knn/a"),)))
    content = json.loads(path.read_text())
    content["runs"][0] |= change
    path.write_text(json.dumps(content))
    refused(tmp_path)


@pytest.mark.parametrize("text", ["", "[", "[]", "[" * 100_000, "\ud800", '{"schema": []}'])
def test_what_is_no_plan_at_all_is_refused(tmp_path: Path, text: str) -> None:
    path = write_plan(tmp_path, Plan(suite="a", runs=()))
    path.write_bytes(text.encode(errors="surrogatepass"))
    refused(tmp_path)
