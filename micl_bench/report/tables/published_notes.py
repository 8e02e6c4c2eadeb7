"""What stands beside a measured number about the published ones of the same protocol."""

from collections.abc import Iterable

from micl_bench.records.published import measures
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.frame.entries import Entry


class Beside:
    """The verdicts of all records against all published numbers."""

    def __init__(self, found: Iterable[Verdict]) -> None:
        self._found: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in found:
            for result in verdict.results:
                key = (result.id, measures(verdict.reference)[2])
                self._found.setdefault(key, []).append(verdict)

    def words(self, entry: Entry) -> tuple[tuple[str, ...], list[str]]:
        """The small print of a number, and the texts of its footnotes."""
        found = self._found.get((entry.first.id, entry.metric), [])
        lines = [f"{_text(one)} ({one.reference.source}) is of the same protocol" for one in found]
        notes = [f"against published numbers: {'; '.join(lines)}"] if lines else []
        return tuple(dict.fromkeys(map(_brief, found))), notes


def _brief(verdict: Verdict) -> str:
    word = "consistent with" if verdict.word == "consistent" else verdict.word
    condition = f", {verdict.condition}" if verdict.condition else ""
    return f"{word} published {_text(verdict)}{condition}"


def _text(verdict: Verdict) -> str:
    return verdict.reference.text or f"{verdict.reference.value:g}"
