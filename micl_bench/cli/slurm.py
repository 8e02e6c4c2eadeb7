"""`micl-bench slurm`: any other command as a job on a cluster."""

from typing import Annotated, Any

import typer

from micl_bench.cli.cluster_options import (
    DEFAULT_LOGS,
    Account,
    Cpus,
    Gpus,
    Logs,
    Minutes,
    Partition,
    Requeues,
    Sbatch,
    WarnSeconds,
    sbatch_pairs,
)
from micl_bench.runtime.errors import InputError

# Their processes share the work; several processes of another would each do all of it.
_SHARED = ("pretrain", "eval")
_SHOWN_LOGS = 4


def slurm(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="After --, any other command of micl-bench with its own arguments.",
            show_default=False,
        ),
    ] = None,
    logs: Logs = DEFAULT_LOGS,
    minutes: Minutes = 60,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus_per_node: Gpus = 0,
    tasks_per_node: Annotated[
        int | None,
        typer.Option(min=1, help="Processes a machine where it has no GPUs; 1 if not given."),
    ] = None,
    cpus: Cpus = None,
    partition: Partition = None,
    account: Account = None,
    sbatch: Sbatch = None,
    requeues: Requeues = 10,
    warn_seconds: WarnSeconds = 120,
    local: Annotated[
        bool, typer.Option("--local", help="Start the job on this machine instead, without Slurm.")
    ] = False,
) -> None:
    """Run another command as a job on a Slurm cluster; prints where its logs are and returns.

    Warned of its time limit or of a preemption, pretrain saves the step that it is in, and so do the
    evaluations that train (finetune, linear, ade20k, coco); the job goes back to the queue and goes on
    from there. Other commands start over. SIGUSR1 (scancel --signal=USR1 JOB) makes these save and end
    for good.

    A local job is the same as a job of one machine; it starts at most 6 times.
    """
    words = list(command or [])
    name = _parsed(context, words)
    tasks = _tasks_per_node(gpus_per_node, tasks_per_node)
    if nodes * tasks > 1 and name not in _SHARED:
        raise InputError(
            f"{name} runs as one process, not as {nodes * tasks}; only {' and '.join(_SHARED)} share "
            "their work"
        )
    if local and (nodes > 1 or cpus or partition or account or sbatch):
        raise InputError(
            "--local takes no --nodes, --cpus-per-gpu, --partition, --account, --sbatch"
        )
    try:
        from micl_bench.suites.cluster import ClusterTask, Resources, submit
    except ModuleNotFoundError as error:
        raise InputError(f"slurm needs {error.name}: pip install 'micl-bench[slurm]'") from error
    resources = Resources(
        nodes=nodes,
        tasks_per_node=tasks,
        gpus_per_node=gpus_per_node,
        cpus_per_task=cpus,
        minutes=minutes,
        warn_seconds=warn_seconds,
        partition=partition,
        account=account,
        sbatch=sbatch_pairs(sbatch or []),
    )
    task = ClusterTask(context.obj.run, words)
    job = submit(task, resources, logs=logs, requeues=requeues, local=local)
    print(f"job: {job.job_id}  (to stop it: {'kill -INT' if local else 'scancel'} {job.job_id})")
    for path in job.logs[:_SHOWN_LOGS]:
        print(f"log: {path}")
    if len(job.logs) > _SHOWN_LOGS:
        print(f"and so on, a log a process: {len(job.logs)} in all")


def _parsed(context: typer.Context, words: list[str]) -> str:
    """Name of the command; it is parsed here, where a mistake is not found after hours in a queue."""
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


def _tasks_per_node(gpus: int, tasks: int | None) -> int:
    if gpus and tasks not in (None, gpus):
        raise InputError(
            f"--tasks-per-node {tasks} does not fit {gpus} GPUs: one process runs on each; leave it out"
        )
    return gpus or tasks or 1
