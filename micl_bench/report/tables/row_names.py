"""What to call the rows of one table: the method, and what tells them apart."""

from collections.abc import Iterable, Sequence

from micl_bench.records.result import Result, Stage
from micl_bench.report.frame.identity import Identity, labels
from micl_bench.report.frame.protocols import flat_settings

_MOST_WORDS = 3


def name_rows(rows: Iterable[tuple[Identity, Result]]) -> dict[Identity, str]:
    """The label of each network, given any record of it; the architecture has a column of its own."""
    known = dict(rows)
    groups: dict[tuple[str, str], dict[str, Sequence[Stage]]] = {}
    for network, result in known.items():
        if network.training:
            alike = groups.setdefault((network.method, network.arch), {})
            alike[network.training] = result.checkpoint.origin
    trainings: dict[str, str] = {}
    for alike in groups.values():
        trainings |= _apart(alike)
    return labels(known, trainings, with_arch=False)


def _apart(trainings: dict[str, Sequence[Stage]]) -> dict[str, str]:
    """Settings in which trainings differ, in words, where these are few and tell all apart."""
    return _differing({name: _settings(stages) for name, stages in trainings.items()})


def _differing(flat: dict[str, dict[str, str]]) -> dict[str, str]:
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    differ = [key for key in keys if len({s.get(key, "") for s in flat.values()}) > 1]
    if not 0 < len(differ) <= _MOST_WORDS:
        return {}
    return {
        name: ", ".join(
            f"{key.rpartition('.')[2].replace('_', ' ')} {settings.get(key, 'not set')}"
            for key in differ
        )
        for name, settings in flat.items()
    }


def _settings(stages: Sequence[Stage]) -> dict[str, str]:
    found: dict[str, str] = {}
    for stage in stages:
        settings = {"data": stage.data, "data_digest": stage.data_digest[:7], **stage.settings}
        found |= {f"{stage.task}.{key}": value for key, value in flat_settings(settings).items()}
    return found


def name_settings(runs: Iterable[Result]) -> dict[str, str]:
    """By fingerprint, the settings in which pre-trainings of one method differ, in words."""
    groups: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for run in runs:
        alike = groups.setdefault((run.method, run.arch), {})
        alike[run.fingerprint] = flat_settings(run.settings)
    words: dict[str, str] = {}
    for alike in groups.values():
        words |= _differing(alike)
    return words
