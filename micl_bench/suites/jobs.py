"""A suite as array jobs on a cluster: one array for each level of need, one run a job.

Each job calls `suite run FILE ... --only KEY`, which claims its run as any other suite would, so that
jobs, other submissions and suites on login nodes get along.
"""

import dataclasses
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.suites.cluster import ClusterTask, Resources, Submitted, submit_array
from micl_bench.suites.run import Run
from micl_bench.suites.state import States

_LARGEST_ARRAY = 500  # Slurm's own limit is 1000, unless a cluster sets another


def levels(runs: list[Run], store: Path) -> list[list[Run]]:
    """Runs that are not done, by how many others have to come before them."""
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

    Args:
        command: that does a run, less `--only`.

    Raises:
        InputError: no Slurm, a refusal, or runs of more processes than a job has GPUs.
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
            jobs += submit_array(tasks, resources, logs=logs, requeues=requeues, after=after)
        # `afterany` of an array's own number waits for all of it.
        after = list(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        submitted.append(jobs)
    return submitted


def _require_gpus(runs: list[Run], gpus: int) -> None:
    for run in runs:
        if gpus and run.processes > gpus:
            raise InputError(
                f"{run.name} has {run.processes} processes, a job has {gpus} GPUs: give "
                f"--gpus-per-node {run.processes}, or --set processes={gpus}"
            )
