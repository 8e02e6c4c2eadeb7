"""The trainings behind a record's weights, and the records that hold their cost."""

from collections.abc import Iterable

from micl_bench.records.result import Result
from micl_bench.records.weights import Stage

PRETRAIN = "pretrain"
"""The task of a pre-training, and the name of that stage in a checkpoint."""

_Key = tuple[str, str, str, int, str]


class Lineage:
    """Finds the record of a training among those of a store, by what the checkpoint says of it."""

    def __init__(self, results: Iterable[Result]) -> None:
        """Index all records of a store, oldest first: of equal trainings the newest counts."""
        self._trainings: dict[_Key, Result] = {
            (
                result.task,
                _method_of(result),
                result.fingerprint,
                result.seed,
                (result.train or result.data).digest,
            ): result
            for result in results
        }

    def record_of(self, stage: Stage) -> Result | None:
        """Return the record of a stage, or None where the store does not hold it."""
        method = _method(stage.task, stage.method)
        key = (stage.task, method, stage.fingerprint, stage.seed, stage.data_digest)
        return self._trainings.get(key)

    def pretraining(self, result: Result) -> Result | None:
        """Return the pre-training record behind a result's weights, or None where there is none."""
        if result.task == PRETRAIN:
            return result
        stage = pretraining_stage(result)
        return self.record_of(stage) if stage else None


def _method_of(result: Result) -> str:
    """Return the method of a training's record; tables may call a pre-training something else."""
    stage = pretraining_stage(result) if result.task == PRETRAIN else None
    return _method(result.task, stage.method if stage else result.method)


def _method(task: str, method: str) -> str:
    """Return a pre-training's method, as two may have equal settings; empty for other tasks."""
    return method if task == PRETRAIN else ""


def pretraining_stage(result: Result) -> Stage | None:
    """Return the last pre-training of a result's weights, or None where their file names none.

    One that the user stated does not count: it says which runs belong together, not what was done.
    """
    stages = [
        stage for stage in result.checkpoint.origin if stage.task == PRETRAIN and not stage.stated
    ]
    return stages[-1] if stages else None


def hardware_of(environment: dict[str, str]) -> str:
    """Return the hardware of device-hours: the GPUs, or else the processor."""
    cores, processor = environment.get("cores", "?"), environment.get("processor", "processor")
    return environment.get("gpus") or f"{cores} cores of {processor}"
