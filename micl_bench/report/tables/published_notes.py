"""What stands beside a measured number about the published ones of the same method and metric."""

from collections.abc import Iterable

from micl_bench.records.published import measures
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.compare.protocol_differences import UNTOLD
from micl_bench.report.frame.entries import Entry

_WORDS = {"consistent": "consistent with", "below": "below", "above": "above"}


class Beside:
    """The verdicts of all records against all published numbers."""

    def __init__(self, found: Iterable[Verdict]) -> None:
        self._found: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in found:
            metric = measures(verdict.reference)[2]
            for result in verdict.results:
                # Published numbers say nothing of what only stands in for their images.
                if not result.data.stands_for:
                    self._found.setdefault((result.id, metric), []).append(verdict)

    def words(self, entry: Entry) -> tuple[tuple[str, ...], list[str]]:
        """The small print of a number, and the texts of its footnotes."""
        found = self._found.get((entry.first.id, entry.metric), [])
        told = [verdict for verdict in found if verdict.word != "not comparable"]
        details = dict.fromkeys(map(_brief, told))
        lines = [*map(_known, told), *_apart(found)]
        return tuple(details), [f"against published numbers: {'; '.join(lines)}"] if lines else []


def _brief(verdict: Verdict) -> str:
    is_open = any(caveat.startswith(UNTOLD) for caveat in verdict.caveats)
    words = f"{_WORDS[verdict.word]} published {_text(verdict)}"
    return f"{words}, if of its pre-training" if is_open else words


def _known(verdict: Verdict) -> str:
    caveats = f", but {', '.join(verdict.caveats)}" if verdict.caveats else ""
    return f"{_number(verdict)} is of the same protocol{caveats}"


def _apart(found: Iterable[Verdict]) -> list[str]:
    """A line for each list of reasons why published numbers are not comparable."""
    by_reasons: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in found:
        if verdict.word == "not comparable":
            by_reasons.setdefault(verdict.reasons, []).append(verdict)
    return [
        f"{', '.join(map(_number, alike))} not comparable ({', '.join(reasons)})"
        for reasons, alike in by_reasons.items()
    ]


def _number(verdict: Verdict) -> str:
    return f"{_text(verdict)} ({verdict.reference.source})"


def _text(verdict: Verdict) -> str:
    return verdict.reference.text or f"{verdict.reference.value:g}"
