"""Options of jobs on a cluster, which `slurm` and `suite run --slurm` share."""

from pathlib import Path
from typing import Annotated

import typer

from micl_bench.runtime.errors import InputError

DEFAULT_LOGS = Path("work/slurm")

Logs = Annotated[Path, typer.Option(help="Folder for logs; every node must see it.")]
Minutes = Annotated[
    int, typer.Option(min=1, help="Time limit, after which the job goes back to the queue.")
]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs of each machine; one process runs on each.")]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-gpu", "--cpus-per-task", min=1, help="Processor cores of each process."
    ),
]
Partition = Annotated[str | None, typer.Option(help="Slurm's partition.")]
Account = Annotated[str | None, typer.Option(help="Slurm's account.")]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Another option of sbatch; repeatable."),
]
Requeues = Annotated[
    int, typer.Option(min=0, help="Time limits after which it goes on; preemptions do not count.")
]
WarnSeconds = Annotated[
    int, typer.Option(min=1, help="Seconds before the time limit, to end a step and to save it.")
]


def sbatch_pairs(assignments: list[str]) -> dict[str, str]:
    """`KEY=VALUE` of each `--sbatch`.

    Raises:
        InputError: one without `=`.
    """
    for assignment in assignments:
        if "=" not in assignment:
            raise InputError(f"--sbatch {assignment!r} is not KEY=VALUE, such as qos=high")
    return dict(assignment.split("=", 1) for assignment in assignments)
