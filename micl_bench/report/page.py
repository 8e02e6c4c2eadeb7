"""The report itself: what the templates show, and the folder that holds it."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from micl_bench.errors import InputError
from micl_bench.files import atomic_folder
from micl_bench.log import printable
from micl_bench.record import Result, read_results
from micl_bench.report.compare import paired_verdict
from micl_bench.report.export import provenance_frame, slugs, task_frame
from micl_bench.report.figures import Gallery, draw_all
from micl_bench.report.metrics import classes_of, task_title
from micl_bench.report.selection import Selection, select
from micl_bench.report.task_table import build_table, heads_tried
from micl_bench.report.verdicts import compare, verdict

_TEMPLATES = Path(__file__).parent / "templates"
_MARKDOWN_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}
)


def build(results: Path, out: Path, *, title: str) -> Path:
    """Build the report; `micl_bench.report.build_report` says what it promises."""
    _check_out(results, out)
    selection = select(read_results(results))
    gallery = draw_all(selection)
    context = _context(selection, gallery, title)
    atomic_folder(out, lambda folder: _write(folder, selection, gallery, context))
    return out / "report.html"


def _check_out(results: Path, out: Path) -> None:
    """Refuse a folder whose replacement would take something else with it."""
    if results.resolve().is_relative_to(out.resolve()):
        raise InputError(f"the report folder {out} would replace the records in {results}")
    if out.exists() and not out.is_dir():
        raise InputError(f"the report needs a folder, {out} is a file")
    if out.is_dir() and any(out.iterdir()) and not (out / "report.html").is_file():
        raise InputError(f"{out} holds something other than a report; name a new or empty folder")


def _context(selection: Selection, gallery: Gallery, title: str) -> dict[str, Any]:
    sections = [
        _section(selection, task, anchor) for task, anchor in slugs(selection.tasks).items()
    ]
    comparisons = [c for section in sections for c in section["comparisons"]]
    stand_ins = {result.data for result in selection.current if result.data.stands_for}
    pictures = [
        {
            "name": picture.name,
            "title": picture.title,
            "caption": picture.caption,
            "table": picture.table,
            "base64": base64.b64encode(picture.png).decode(),
        }
        for picture in gallery.pictures
    ]
    return {
        "title": title,
        "num_records": len(selection.records),
        "methods": sorted({result.method for result in selection.current}),
        "num_wins": sum(comparison.wins for comparison in comparisons),
        "num_comparisons": len(comparisons),
        "stand_ins": sorted({(data.name, data.stands_for) for data in stand_ins}),
        "sections": sections,
        "pictures": pictures,
        "left_out": gallery.left_out,
        "records": [_provenance(result, selection) for _, result in selection.records],
        "environments": _environments(selection),
    }


def _section(selection: Selection, task: str, anchor: str) -> dict[str, Any]:
    results = selection.of_task(task)
    table = build_table(results)

    def test(ours: Result, rival: Result, metric: str) -> str:
        pair = (selection.path_of(ours), ours), (selection.path_of(rival), rival)
        return paired_verdict(*pair, metric)

    comparisons = compare(table, test)
    archs = sorted({result.arch for result in results})
    metrics = {metric for result in results for metric in result.metrics}
    return {
        "anchor": anchor,
        "title": task_title(task),
        "table": table,
        "comparisons": comparisons,
        "verdict": verdict(table, comparisons),
        "archs": archs,
        "num_superseded": sum(r.task == task for r in selection.replaced_by.values()),
        "has_intervals": any(result.intervals for result in results),
        "has_p": any(comparison.tested for comparison in comparisons),
        "has_chosen_head": any(map(heads_tried, results)),
        "has_drop": "drop" in metrics,
        "has_both_readings": any(map(classes_of, metrics)),
    }


def _provenance(result: Result, selection: Selection) -> dict[str, Any]:
    newer = selection.replaced_by.get(result.id)
    return {"result": result, "replaced_by": newer.id if newer else ""}


def _environments(selection: Selection) -> list[dict[str, Any]]:
    """The distinct environments, each with the number of records that were made in it."""
    found: list[dict[str, Any]] = []
    for _, result in selection.records:
        same = [entry for entry in found if entry["values"] == result.environment]
        if same:
            same[0]["num_records"] += 1
        else:
            found.append({"values": result.environment, "num_records": 1})
    return found


def _write(folder: Path, selection: Selection, gallery: Gallery, context: dict[str, Any]) -> None:
    """Fill the report folder."""
    (folder / "figures").mkdir()
    for picture in gallery.pictures:
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "tables").mkdir()
    for task, name in slugs(selection.tasks).items():
        task_frame(selection, task).to_csv(folder / "tables" / f"{name}.csv", index=False)
    provenance_frame(selection).to_csv(folder / "tables" / "provenance.csv", index=False)
    templates = _templates()
    for name in ("report.html", "report.md"):
        page = templates.get_template(f"{name}.jinja").render(context)
        (folder / name).write_text(page, encoding="utf-8")


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["md"] = lambda text: str(text).translate(_MARKDOWN_SPECIAL)
    return templates
