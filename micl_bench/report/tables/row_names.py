"""The labels of a table's rows: the method, and the settings that distinguish them."""

from collections.abc import Iterable, Mapping

from micl_bench.records.result import Result
from micl_bench.report.frame.identity import Identity, labels
from micl_bench.report.frame.protocols import NOT_SET, differing, flat_settings

_MOST_WORDS = 3


def name_rows(rows: Iterable[tuple[Identity, Result]]) -> dict[Identity, str]:
    """Return the label of each network, given any record of it; the architecture has its own column."""
    known = dict(rows)
    trainings = {
        (network.method, network.arch, network.training): _settings(result)
        for network, result in known.items()
        if network.training
    }
    return labels(known, _apart(trainings), with_arch=False)


def name_settings(runs: Iterable[Result]) -> dict[str, str]:
    """Return, by fingerprint, the settings in words in which pre-trainings of one method differ."""
    return _apart(
        {(run.method, run.arch, run.fingerprint): flat_settings(run.settings) for run in runs}
    )


def _settings(result: Result) -> dict[str, str]:
    """Return the settings of all trainings behind a record."""
    found: dict[str, str] = {}
    for stage in result.checkpoint.origin:
        settings = {"data": stage.data, "data_digest": stage.data_digest[:7], **stage.settings}
        found |= {f"{stage.task}.{key}": value for key, value in flat_settings(settings).items()}
    return found


def _apart(trainings: Mapping[tuple[str, str, str], dict[str, str]]) -> dict[str, str]:
    """Return, by training, the settings in words in which those of its method and architecture differ,
    where these are few."""
    words = {}
    for method, arch in dict.fromkeys(key[:2] for key in trainings):
        flat = {key[2]: one for key, one in trainings.items() if key[:2] == (method, arch)}
        differ = differing(flat.values(), absent="")
        if 0 < len(differ) <= _MOST_WORDS:
            for training, settings in flat.items():
                parts = (f"{_spoken(name)} {settings.get(name, NOT_SET)}" for name in differ)
                words[training] = ", ".join(parts)
    return words


def _spoken(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")
