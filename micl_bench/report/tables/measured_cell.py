"""One measured number as a cell: its text, its small print, its footnotes."""

import math

from micl_bench.records.result import Result
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.naming import format_p
from micl_bench.report.tables.model import Cell
from micl_bench.report.tables.ranking import Standing

_CHOSEN_ON_THESE = "best of grid on the evaluated images"


class Notes:
    """The footnotes of a table, in the order in which they are first needed."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the mark of a text, a new one where it has none yet."""
        return self._marks.setdefault(text, mark_of(len(self._marks)))

    @property
    def footnotes(self) -> tuple[tuple[str, str], ...]:
        """Mark and text of each footnote."""
        return tuple((mark, text) for text, mark in self._marks.items())


def mark_of(index: int) -> str:
    """Return the mark of an index from 0: a, b, ..., z, then aa, ab, and so on."""
    first, last = divmod(index, 26)
    return (mark_of(first - 1) if first else "") + chr(ord("a") + last)


def measured_cell(
    entry: Entry,
    standing: Standing,
    words: list[str],
    notes: Notes,
    *,
    details: tuple[str, ...] = (),
) -> Cell:
    """Return the cell of one or several runs.

    Args:
        words: texts of its footnotes: its protocol, where protocols differ.
        details: more small print.
    """
    text, deviation = entry.text, entry.deviation
    if deviation is not None and math.isfinite(deviation):
        text += f" ± {deviation:.1f}" if entry.number.is_percentage else f" ± {deviation:.2g}"
    texts = [*words, *([standing.test] if standing.test else [])]
    return Cell(
        text=text,
        value=entry.mean if math.isfinite(entry.mean) else None,
        kind="measured",
        details=(*_details(entry, standing), *details),
        best=standing.best,
        tied=standing.tied,
        delta=standing.delta,
        against=standing.against,
        records=tuple(run.id for run in entry.runs),
        mark=",".join(map(notes.mark, texts)),
        deviation=deviation,
        interval=entry.interval,
        runs=len(entry.values),
    )


def remarks(entry: Entry) -> list[str]:
    """Return footnotes on a number: why it is undefined, facts that the user stated, files not read."""
    runs = entry.runs
    reasons = [words for run in runs if (words := run.metrics[entry.metric].undefined)]
    share = f" in {len(reasons)} of {len(runs)} runs" if len(runs) > 1 else ""
    stated = {stage.method for run in runs for stage in run.checkpoint.origin if stage.stated}
    datas = [data for run in runs for data in (run.data, run.train) if data and data.left_out]
    lines = [
        *(f"undefined{share}: {reason}" for reason in reasons),
        *(
            f"the pre-training {name} and its seeds are as the user stated them; the files do not say"
            for name in sorted(stated)
        ),
        *(f"not read of {data.name}, {data.split}: {data.left_out}" for data in datas),
    ]
    return list(dict.fromkeys(lines))


def heads_tried(result: Result) -> int:
    """Return the number of heads of which the best on the measured images was chosen, or 0."""
    if not str(result.settings.get("selection", "")).startswith(_CHOSEN_ON_THESE):
        return 0
    grid = result.details.get("grid")
    return len(grid) if isinstance(grid, list) else 0


def _details(entry: Entry, standing: Standing) -> list[str]:
    """Return the small print: interval, seeds, heads, p-value, and metrics that are mentioned here."""
    number = entry.number
    lines = [number.interval_text(entry.interval)] if entry.interval else []
    lines += [entry.seeds] if entry.seeds else []
    if number.direction and (heads := heads_tried(entry.first)):
        lines.append(f"best of {heads} heads")
    lines += [f"p = {format_p(standing.p)}"] if standing.p is not None else []
    if len(entry.runs) == 1:
        others = entry.first.metrics.values()
        lines += [f"{one.title}: {one}" for one in others if one.beside == entry.metric]
    return lines
