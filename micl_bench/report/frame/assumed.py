"""What was assumed of checkpoints, for whoever shows a number that depends on it."""

from collections.abc import Iterable

from micl_bench.records.result import Result


def assumed_words(results: Iterable[Result]) -> list[str]:
    """The footnote of a number whose checkpoints do not state all that it depends on; else none."""
    assumed = dict.fromkeys(words for one in results for words in one.checkpoint.guesses)
    if not assumed:
        return []
    return [f"assumed, as neither the checkpoint nor the user states it: {', '.join(assumed)}"]
