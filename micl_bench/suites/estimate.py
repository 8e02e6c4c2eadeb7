"""How long runs may take, from those of their kind that this store has seen."""

from micl_bench.suites.run import Run


class Estimate:
    """Mean seconds of an entry's runs, else of its task's."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[float]] = {}

    def note(self, run: Run, seconds: float) -> None:
        """Take in what a run took."""
        if seconds > 0:
            for kind in _kinds(run):
                self._seen.setdefault(kind, []).append(seconds)

    def seconds(self, run: Run) -> float | None:
        """A guess for one run; None where none of its kind was seen."""
        for kind in _kinds(run):
            if seen := self._seen.get(kind):
                return sum(seen) / len(seen)
        return None


def _kinds(run: Run) -> tuple[tuple[str, str], ...]:
    # Steps that make data have nothing in common with each other.
    named = ("entry", run.name if run.task == "data" else run.entry)
    return (named,) if run.task == "data" else (named, ("task", run.task))
