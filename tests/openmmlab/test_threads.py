"""A dense run gives the same bits alone and in a process in which others have set their threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import losses

ALONE = "from micl_bench.cli.app import main; main()"
# As a run at bfloat16 leaves the process: MKL no longer takes fewer threads by itself.
AFTER_OTHERS = f"import torch; torch.set_num_threads(torch.get_num_threads()); {ALONE}"


@pytest.mark.long
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one thread has no choice")
def test_alone_and_after_others_the_losses_are_the_same(embedded: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    words = ["eval", "ade20k", "--checkpoint", "random:vit_demo_patch4_32"]
    words += ["--recipe", "embedded_upernet", "--data", str(embedded / "embedded-ade20k")]
    # Without the same threads from the start, losses part at the ninth step.
    words += ["--set", "train_cfg.max_iters=12"]
    made = []
    for name, code in (("alone", ALONE), ("after", AFTER_OTHERS)):
        out = tmp_path / name
        command = [sys.executable, "-c", code, *words, "--out", str(out)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
        made.append(losses(out))
    assert len(made[0]) == 12
    assert made[0] == made[1]
