"""`micl-bench slurm`, another command as a job on a cluster, and the options of jobs, for suites too."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micl_bench.cli.options import grouped
from micl_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from micl_bench.suites.cluster import Resources

# Their processes share the work; several processes of another would each do all of it.
_SHARED = ("pretrain", "eval")
_SHOWN_LOGS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jobs:
    """The options of jobs."""

    logs: Annotated[Path, typer.Option(help="Folder for logs, on a disk that all nodes share.")] = (
        Path("work/slurm")
    )
    minutes: Annotated[
        int,
        typer.Option(
            min=1, help="Time limit in minutes, after which the job goes back to the queue."
        ),
    ] = 60
    gpus_per_node: Annotated[
        int, typer.Option(min=0, help="GPUs per machine; one process runs on each.")
    ] = 0
    cpus: Annotated[
        int | None,
        typer.Option(
            "--cpus-per-gpu", "--cpus-per-task", min=1, help="Processor cores per process."
        ),
    ] = None
    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.")] = None
    account: Annotated[str | None, typer.Option(help="Account that the job is charged to.")] = None
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Another option of sbatch, such as qos=high; repeatable."
        ),
    ] = None
    requeues: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often the job may continue after its time limit; preemptions do not count.",
        ),
    ] = 10
    warn_seconds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Seconds before the time limit at which the job is warned, so that it can save.",
        ),
    ] = 120

    def resources(
        self, *, nodes: int = 1, tasks_per_node: int = 1, cpus_per_task: int | None
    ) -> "Resources":
        """Return the options as the resources of a job.

        Raises:
            InputError: submitit is not installed, or a value is not allowed.
        """
        try:
            from micl_bench.suites.cluster import Resources
        except ModuleNotFoundError as error:
            raise InputError(
                f"slurm needs {error.name}: pip install 'micl-bench[slurm]'"
            ) from error
        for assignment in self.sbatch or []:
            if "=" not in assignment:
                raise InputError(f"--sbatch {assignment!r} is not KEY=VALUE, such as qos=high")
        return Resources(
            nodes=nodes,
            tasks_per_node=tasks_per_node,
            gpus_per_node=self.gpus_per_node,
            cpus_per_task=cpus_per_task,
            minutes=self.minutes,
            warn_seconds=self.warn_seconds,
            partition=self.partition,
            account=self.account,
            sbatch=dict(one.split("=", 1) for one in self.sbatch or []),
        )


@grouped
def slurm(
    context: typer.Context,
    jobs: Jobs,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Any other command of micl-bench with its own arguments, after a --.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    tasks_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="Processes per machine without GPUs; 1 if not given."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start the job on this machine, without Slurm.")
    ] = False,
) -> None:
    """Run another command as a job on a Slurm cluster.

    The command queues the job, prints where its logs are, and returns. When the job is warned of its
    time limit or of a preemption, pretrain saves its state, and so do the evaluations that train
    (finetune, linear, ade20k, coco); the job goes back to the queue and continues from there. Other
    commands start over. SIGUSR1 (scancel --signal=USR1 JOB) makes a training save and end for good.

    With --local the job runs on this machine, without Slurm, and starts at most 6 times.
    """
    words = list(command or [])
    name = _parsed(context, words)
    gpus = jobs.gpus_per_node
    if gpus and tasks_per_node not in (None, gpus):
        raise InputError(
            f"--tasks-per-node {tasks_per_node} does not fit {gpus} GPUs: one process runs on each; "
            "leave it out"
        )
    tasks = gpus or tasks_per_node or 1
    if nodes * tasks > 1 and name not in _SHARED:
        raise InputError(
            f"{name} runs as one process, not as {nodes * tasks}; only {' and '.join(_SHARED)} share "
            "their work"
        )
    if local and (nodes > 1 or jobs.cpus or jobs.partition or jobs.account or jobs.sbatch):
        raise InputError(
            "--local takes no --nodes, --cpus-per-gpu, --partition, --account, --sbatch"
        )
    resources = jobs.resources(nodes=nodes, tasks_per_node=tasks, cpus_per_task=jobs.cpus)
    from micl_bench.suites.cluster import ClusterTask, submit

    task = ClusterTask(context.obj.run, words)
    job = submit(task, resources, logs=jobs.logs, requeues=jobs.requeues, local=local)
    print(f"job: {job.job_id}  (to stop it: {'kill -INT' if local else 'scancel'} {job.job_id})")
    for path in job.logs[:_SHOWN_LOGS]:
        print(f"log: {path}")
    if len(job.logs) > _SHOWN_LOGS:
        print(f"and so on, one log per process: {len(job.logs)} in all")


def _parsed(context: typer.Context, words: list[str]) -> str:
    """Parse a command before it waits for hours in a queue, and return its name."""
    root = context.find_root()
    rest = words[words[:1] == ["--debug"] :]
    found: Any = root.command
    name = ""
    while hasattr(found, "get_command"):
        if not rest:
            raise InputError(
                f"no command to run after {'-- ' + name if name else '--'}; for instance: micl-bench "
                "slurm -- pretrain RECIPE --data DIR --out DIR"
            )
        known, name, rest = found, rest[0], rest[1:]
        found = known.get_command(root, name)
        if found is None or found is context.command:
            others = [other for other in known.list_commands(root) if other != context.command.name]
            raise InputError(f"slurm cannot run {name!r}; known: {', '.join(others)}")
    found.make_context(name, list(rest), parent=root)
    return name
