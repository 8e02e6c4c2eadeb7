"""Run by torchrun: both libraries evaluate seven images on two processes; each tells what it measured.

Arguments: the embedded data set, and a folder.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from openmmlab.perturbed import evaluation

from micl_bench.runtime.distributed import process_group, rank
from micl_bench.runtime.errors import InputError

if __name__ == "__main__":
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with process_group():
        for library in ("mmseg", "mmdet"):
            runner, evidence = evaluation(
                library, data, folder / library, **{"val_dataloader.dataset.indices": 7}
            )
            with contextlib.redirect_stdout(io.StringIO()):
                metrics = runner.val()
            kept = len(evidence._kept)
            made = evidence.measured(metrics)
            try:
                evidence.measured({name: value + 0.5 for name, value in metrics.items()})
                refused = ""
            except InputError as error:
                refused = str(error)
            told = {"kept": kept, "refused": refused}
            told |= {"metrics": made.metrics, "intervals": made.intervals}
            (folder / f"{library}{rank()}.json").write_text(json.dumps(told))
            made.statistics.write(folder / f"{library}{rank()}.npz")
