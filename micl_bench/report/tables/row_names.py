"""What to call the rows of one table: the method, and what tells them apart."""

from collections.abc import Iterable, Mapping

from micl_bench.records.result import Result
from micl_bench.report.frame.identity import Identity, labels
from micl_bench.report.frame.protocols import flat_settings

_MOST_WORDS = 3


def name_rows(rows: Iterable[tuple[Identity, Result]]) -> dict[Identity, str]:
    """The label of each network, given any record of it; the architecture has a column of its own."""
    known = dict(rows)
    trainings = {
        (network.method, network.arch, network.training): _settings(result)
        for network, result in known.items()
        if network.training
    }
    return labels(known, _apart(trainings), with_arch=False)


def name_settings(runs: Iterable[Result]) -> dict[str, str]:
    """By fingerprint, the settings in which pre-trainings of one method differ, in words."""
    return _apart(
        {(run.method, run.arch, run.fingerprint): flat_settings(run.settings) for run in runs}
    )


def _settings(result: Result) -> dict[str, str]:
    """Of all trainings behind a record."""
    found: dict[str, str] = {}
    for stage in result.checkpoint.origin:
        settings = {"data": stage.data, "data_digest": stage.data_digest[:7], **stage.settings}
        found |= {f"{stage.task}.{key}": value for key, value in flat_settings(settings).items()}
    return found


def _apart(trainings: Mapping[tuple[str, str, str], dict[str, str]]) -> dict[str, str]:
    """By training: settings in which those of its method and architecture differ, in words, where these
    are few and tell all apart."""
    words = {}
    for method, arch in dict.fromkeys(key[:2] for key in trainings):
        flat = {key[2]: one for key, one in trainings.items() if key[:2] == (method, arch)}
        names = dict.fromkeys(name for settings in flat.values() for name in settings)
        differ = [name for name in names if len({s.get(name, "") for s in flat.values()}) > 1]
        if 0 < len(differ) <= _MOST_WORDS:
            for training, settings in flat.items():
                told = (f"{_spoken(name)} {settings.get(name, 'not set')}" for name in differ)
                words[training] = ", ".join(told)
    return words


def _spoken(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")
