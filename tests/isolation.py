"""Tests touch nothing of whoever runs them: not the checkout's `work/`, their cache, HOME or settings.

What a command finds in the environment (a cache, a hub's token, a running Slurm job, a terminal's
width) would otherwise decide what a test sees, and a test could leave its files there.
"""

import os
import shutil
import tempfile

_HOME = "MICL_BENCH_TESTS_HOME"
# Settings of this project and of what it stands on. CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS stay:
# they say what of the machine may be used.
_FOREIGN = (
    *("MICL_BENCH_", "XDG_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH_", "TORCHELASTIC_"),
    *("TIMM_", "MPL", "SLURM_", "SBATCH_", "SUBMITIT_", "WANDB_", "MLFLOW_"),
)
_FOREIGN_NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "LANGUAGE", "LC_ALL", "TZ"),
)


def isolate() -> None:
    """Give this process, and all that it starts, an empty HOME and none of the user's settings.

    The processes of pytest-xdist find the HOME that their parent made.
    """
    home = os.environ.get(_HOME) or tempfile.mkdtemp(prefix="micl-bench-tests-")
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
            del os.environ[name]
    os.environ |= {_HOME: home, "HOME": home, "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def remove_home() -> None:
    """Remove the HOME that `isolate` made."""
    shutil.rmtree(os.environ[_HOME], ignore_errors=True)
