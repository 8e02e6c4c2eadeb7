"""Measured numbers beside published ones of the same method, network, task and metric, as a table."""

import math
from collections.abc import Iterable

from micl_bench.records.published import measures
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.tables.model import Cell, Column, Row, Table


def published_table(found: Iterable[Verdict]) -> Table:
    """Each measured number beside the published one of its method, network, task and metric."""
    ordered = sorted(found, key=lambda each: each.word == "not comparable")
    return Table(
        name="against-published",
        title="Measured against published",
        caption="Where both exist for one method, network, task and metric. Consistent: the measured "
        "95 % interval reaches what the printed number stands for; below, above: all of it lies "
        "there; not comparable: the protocols differ, and in what.",
        columns=(
            _words("verdict"),
            _words("task"),
            _words("metric"),
            _numbers("measured"),
            _numbers("published"),
            _words("what differs, or is not known"),
        ),
        rows=tuple(map(_row, ordered)),
        footnotes=(),
    )


def _row(found: Verdict) -> Row:
    reference = found.reference
    _, data, _ = measures(reference)
    title = found.results[0].about.title
    low_high = found.interval
    details = [f"{low_high[0]:.2f} to {low_high[1]:.2f}"] if low_high else []
    details += [found.over] if found.over else []
    return Row(
        label=f"{reference.method}, {reference.arch}",
        kind="measured",
        cells=(
            Cell(text=found.word, kind="words"),
            Cell(text=f"{title}, {data}", kind="words"),
            Cell(text=reference.facts.header, kind="words"),
            Cell(
                text=f"{found.value:.2f}" if math.isfinite(found.value) else "–",
                value=found.value if math.isfinite(found.value) else None,
                kind="measured",
                details=tuple(details),
                records=tuple(result.id for result in found.results),
                interval=low_high,
                runs=len(found.values),
            ),
            Cell(
                text=reference.text or f"{reference.value:g}",
                value=reference.value,
                kind="published",
                details=(reference.source,),
                records=(reference.id,),
            ),
            Cell(text="; ".join((*found.reasons, *found.caveats)), kind="words"),
        ),
    )


def _words(header: str) -> Column:
    return Column(key=header, group="", header=header, numeric=False)


def _numbers(header: str) -> Column:
    return Column(key=header, group="", header=header, numeric=True)
