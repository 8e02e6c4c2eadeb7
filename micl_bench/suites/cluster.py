"""Jobs on a Slurm cluster, through submitit: submitted, run, and continued after a time limit.

A warned pre-training run saves and stops; then the first task hands the job back to the queue and
every task leaves. The same job starts again later, from what was saved.
"""

import contextlib
import dataclasses
import functools
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from submitit import JobEnvironment, LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import (
    DelayedSubmission,
    TorchDistributedEnvironment,
    clean_env,
    environment_variables,
)

from micl_bench.runtime.errors import InputError, Stopped
from micl_bench.runtime.log import say
from micl_bench.suites.run import Run
from micl_bench.suites.state import States

_LOCAL_STARTS = 6  # submitit's local controller starts a job no more often
_LARGEST_ARRAY = 500  # Slurm's own limit is 1000, unless a cluster sets another

# What a Resources has a field for, or what the way a job goes on rests on; as sbatch spells them.
_FIXED = {
    *("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "partition", "account", "time"),
    *("signal", "output", "error", "open-mode", "requeue", "no-requeue", "job-name", "array"),
    "dependency",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources of a job."""

    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    """Processor cores per task; None leaves their number to the cluster."""
    minutes: int
    warn_seconds: int
    """Seconds before the time limit at which the job is asked to save and to go back to the queue."""
    partition: str | None = None
    account: str | None = None
    sbatch: dict[str, str] = dataclasses.field(default_factory=dict)
    """Further options of sbatch, by their long names."""

    def __post_init__(self) -> None:
        if self.warn_seconds >= 60 * self.minutes:
            raise InputError(
                f"a warning {self.warn_seconds} s before the end leaves nothing of {self.minutes} min"
            )
        if fixed := _FIXED & set(self.sbatch):
            raise InputError(
                f"--sbatch cannot set {min(fixed)}: an option of its own or needed as is"
            )
        for name, value in self.sbatch.items():
            if not (name.replace("-", "").isalnum() and name.islower() and value.isprintable()):
                raise InputError(
                    f"--sbatch {name}={value} is not one of sbatch's long options without its dashes, "
                    "such as qos=high"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submitted:
    """A submitted job: its number, and where its logs are."""

    job_id: str
    logs: list[Path]
    """One file per task."""


@dataclasses.dataclass(frozen=True)
class ClusterTask:
    """One `micl-bench` command, as each task of a job runs it; submitit keeps it in a file."""

    run: Callable[..., None]
    """`cli.run`, which whoever submits was called by; kept by its name."""
    arguments: list[str]
    starts_processes: bool = False
    """The job has one task, and its command starts the processes that share the work."""

    def __call__(self) -> None:
        """Run the command beside the job's other tasks, and leave with its exit code."""
        if not self.starts_processes:
            # Every GPU of the node stays visible: LOCAL_RANK chooses.
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        # Slurm signals workers of a data loader too; only a task itself may requeue.
        os.register_at_fork(
            after_in_child=functools.partial(signal.signal, _warning(), signal.SIG_IGN)
        )
        try:
            self.run(self.arguments, on_stop=_go_on_later, trace_defects=True)
        finally:
            # From here a warning would only kill the process in its last moments: a failed job.
            signal.signal(_warning(), signal.SIG_IGN)

    def checkpoint(self) -> DelayedSubmission:
        """Return what the job runs when it starts again; submitit asks just before it requeues."""
        return DelayedSubmission(self)


def submit(
    task: ClusterTask, resources: Resources, *, logs: Path, requeues: int, local: bool = False
) -> Submitted:
    """Queue a job, or start it on this machine, and return at once with its number and logs.

    Args:
        requeues: the times it may continue after its time limit; preemptions are not counted.

    Raises:
        InputError: there is no Slurm here, or it refuses the job.
    """
    executor = (
        _local_executor(resources, logs, requeues)
        if local
        else _slurm_executor(resources, logs, requeues)
    )
    with _submitting():
        job = executor.submit(task)
    tasks = range(resources.nodes * resources.tasks_per_node)
    return Submitted(job_id=job.job_id, logs=[job.task(number).paths.stdout for number in tasks])


def levels(runs: list[Run], store: Path) -> list[list[Run]]:
    """Return the runs that are not done in levels: those of a level need only earlier levels."""
    states = States(store, runs)
    depth: dict[str, int] = {}
    found: list[list[Run]] = []
    for run in runs:
        if states.of(run).word == "done":
            continue
        before = [depth[other.key] for other in (*run.needs, *run.after) if other.key in depth]
        depth[run.key] = level = 1 + max(before, default=-1)
        found += [[] for _ in range(level + 1 - len(found))]
        found[level].append(run)
    return found


def submit_levels(
    found: list[list[Run]], command: ClusterTask, resources: Resources, *, logs: Path, requeues: int
) -> list[list[Submitted]]:
    """Queue every run; those of a level begin when all of the level before have ended.

    Each job is `suite run FILE ... --only KEY`, which claims its run as any other suite would, so that
    jobs, other submissions and suites on login nodes get along.

    Args:
        command: the command that does a run, without `--only`.

    Returns:
        The job of each run, in the same order.

    Raises:
        InputError: there is no Slurm, it refuses, or a run has more processes than a job has GPUs.
    """
    _require_gpus([run for level in found for run in level], resources.gpus_per_node)
    submitted: list[list[Submitted]] = []
    after: list[str] = []
    for level in found:
        jobs: list[Submitted] = []
        for first in range(0, len(level), _LARGEST_ARRAY):
            tasks = [
                dataclasses.replace(command, arguments=[*command.arguments, "--only", run.key])
                for run in level[first : first + _LARGEST_ARRAY]
            ]
            jobs += _submit_array(tasks, resources, logs=logs, requeues=requeues, after=after)
        # `afterany` of an array's own number waits for all of it.
        after = list(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        submitted.append(jobs)
    return submitted


def _submit_array(
    tasks: list[ClusterTask],
    resources: Resources,
    *,
    logs: Path,
    requeues: int,
    after: Sequence[str],
) -> list[Submitted]:
    """Queue an array with one job per command, which starts when all jobs of `after` have ended."""
    executor = _slurm_executor(resources, logs, requeues)
    if after:
        # However they ended: what needs a failed one says so by itself.
        dependency = {"dependency": "afterany:" + ":".join(after)}
        more = executor.parameters.get("additional_parameters", {}) | dependency
        executor.update_parameters(additional_parameters=more)
    with _submitting(), executor.batch():
        jobs = [executor.submit(task) for task in tasks]
    return [Submitted(job_id=job.job_id, logs=[job.paths.stdout]) for job in jobs]


def _require_gpus(runs: list[Run], gpus: int) -> None:
    for run in runs:
        if gpus and run.processes > gpus:
            raise InputError(
                f"{run.name} has {run.processes} processes, a job has {gpus} GPUs: give "
                f"--gpus-per-node {run.processes}, or --set processes={gpus}"
            )


@contextlib.contextmanager
def _submitting() -> Iterator[None]:
    """Submit inside of this block; a refusal of sbatch becomes an InputError."""
    # The signal that sbatch gets is the one that tasks must expect.
    needed = {"SUBMITIT_PREEMPT_SIGNAL": JobEnvironment.USR_SIG}
    # Which cluster it is, not which job.
    needed |= {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
    expected = environment_variables(**needed)
    try:
        # Of a job that this shell may itself run in, nothing must reach the new one. What sbatch
        # says is in the error.
        with contextlib.redirect_stderr(io.StringIO()), clean_env(), expected:
            yield
    except (FailedJobError, FailedSubmissionError) as error:
        raise InputError(f"sbatch refuses the job: {error}") from error


def _local_executor(resources: Resources, logs: Path, requeues: int) -> LocalExecutor:
    executor = LocalExecutor(logs, max_num_timeout=min(requeues, _LOCAL_STARTS - 1))
    executor.update_parameters(
        timeout_min=resources.minutes,
        signal_delay_s=resources.warn_seconds,
        tasks_per_node=resources.tasks_per_node,
        gpus_per_node=resources.gpus_per_node,
        stderr_to_stdout=True,
    )
    return executor


def _slurm_executor(resources: Resources, logs: Path, requeues: int) -> SlurmExecutor:
    if SlurmExecutor.affinity() < 0:
        raise InputError(
            "there is no Slurm here (no srun on the path): submit from a machine of the cluster, or "
            "run on this one with --local"
        )
    executor = SlurmExecutor(logs, max_num_timeout=requeues)
    # A task that fails ends the others, which would wait for it; one that leaves early does not.
    srun = ["--kill-on-bad-exit=1", "--wait=0", "--open-mode=append"]
    if resources.cpus_per_task:
        # Since Slurm 22.05 srun no longer takes this from sbatch.
        srun.append(f"--cpus-per-task={resources.cpus_per_task}")
    executor.update_parameters(
        job_name="micl-bench",
        time=resources.minutes,
        nodes=resources.nodes,
        ntasks_per_node=resources.tasks_per_node,
        gpus_per_node=resources.gpus_per_node or None,
        cpus_per_task=resources.cpus_per_task,
        partition=resources.partition,
        account=resources.account,
        signal_delay_s=resources.warn_seconds,
        stderr_to_stdout=True,
        srun_args=srun,
        additional_parameters={"requeue": True, **resources.sbatch},
    )
    return executor


def _warning() -> signal.Signals:
    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _go_on_later(stop: Stopped) -> None:
    """Requeue the job, from its first task; returning lets a task leave with exit code 0.

    Signal 0 is a signal that another task got. Any other than the warning is a person's, who wants
    the job to end.
    """
    if stop.signum not in (0, _warning()) or JobEnvironment().global_rank != 0:
        return
    say(str(stop))
    # submitit's own, which the run put back; a second warning must not interrupt it.
    requeue = signal.signal(_warning(), signal.SIG_IGN)
    if not callable(requeue):
        raise RuntimeError("submitit no longer handles its own signal")
    try:
        requeue(_warning(), None)
    except Exception as error:
        raise SystemExit(
            f"error: saved, but not queued again ({error}); the same submission goes on from there"
        ) from error
