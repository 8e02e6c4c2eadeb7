"""Measured numbers beside published ones of the same protocol, as a table."""

from collections.abc import Iterable

from micl_bench.records.published import measures
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.tables.model import Cell, Column, Row, Table


def published_table(found: Iterable[Verdict]) -> Table:
    """Each measured number beside the published one of its method, network, task and protocol."""
    return Table(
        name="against-published",
        title="Measured against published",
        caption="Where both exist for one method, network, task, metric and protocol. Consistent: the "
        "measured 95 % interval reaches what the printed number stands for; below, above: all of it "
        "lies there.",
        columns=(
            _words("verdict"),
            _words("task"),
            _words("metric"),
            _numbers("measured"),
            _numbers("published"),
            _words("protocol"),
        ),
        rows=tuple(map(_row, found)),
        footnotes=(),
    )


def _row(found: Verdict) -> Row:
    reference = found.reference
    _, data, _ = measures(reference)
    title = found.results[0].about.title
    details = [f"{found.interval[0]:.2f} to {found.interval[1]:.2f}"]
    details += [found.over] if found.over else []
    return Row(
        label=f"{reference.method}, {reference.arch}",
        kind="measured",
        cells=(
            Cell(
                text=found.word,
                kind="words",
                details=(found.condition,) if found.condition else (),
            ),
            Cell(text=f"{title}, {data}", kind="words"),
            Cell(text=reference.facts.header, kind="words"),
            Cell(
                text=f"{found.value:.2f}",
                value=found.value,
                kind="measured",
                details=tuple(details),
                records=tuple(result.id for result in found.results),
                interval=found.interval,
                runs=len(found.values),
            ),
            Cell(
                text=reference.text or f"{reference.value:g}",
                value=reference.value,
                kind="published",
                details=(reference.source,),
                records=(reference.id,),
            ),
            Cell(text=reference.protocol, kind="words"),
        ),
    )


def _words(header: str) -> Column:
    return Column(key=header, group="", header=header, numeric=False)


def _numbers(header: str) -> Column:
    return Column(key=header, group="", header=header, numeric=True)
