"""Pre-training by one call: what `micl-bench pretrain` does, for Python."""

from collections.abc import Sequence
from pathlib import Path

from micl_bench.engine.pretraining.pretrainer import Pretrainer
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.warm_start import load_start
from micl_bench.records.provenance import command_of
from micl_bench.records.result import Result, read_result, require_method
from micl_bench.runtime.config import resolve
from micl_bench.runtime.distributed import from_first, process_group
from micl_bench.runtime.errors import InputError


def pretrain(
    recipe: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    method: str = "",
    init: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    command: str = "",
) -> Result:
    """Pre-train a ViT; its weights are `<out>/backbone.pt`, its record lies beside them.

    The same call goes on where an earlier one was cut, and returns at once where one has finished.
    Started by torchrun, the processes share each batch; every one of them gets the record.

    Args:
        recipe: a name that `micl-bench list recipes` shows, or a file.
        data: a folder with `train` and `val`, class folders or packed stores; or `NAME:PLACE` of an
            image source.
        out: folder for what is made.
        overrides: `key=value`, each changes one value of the recipe.
        method: row name in tables; empty for the objective's.
        init: a checkpoint as `load_checkpoint` takes it, whose backbone training starts from, with its
            `layout` and `branch` where they must be stated; None for random weights.
        command: that the record repeats; empty for the command line that does the same.

    Raises:
        InputError: a bad recipe, override, data or start; `out` is a file, or holds a run of another
            recipe or from another start.
        Stopped: a signal (SIGTERM, SIGUSR1, SIGUSR2) asked for it; the state is saved.

    Example:
        result = micl_bench.pretrain("embedded", data="work/data/embedded", out="work/micl")
        print(result.metrics["knn_top1"].value)
    """
    data, out = Path(data), Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    require_method(method)
    if not init and (layout or branch):
        raise InputError(
            "--format and --branch are of the checkpoint to start from: give --init too"
        )
    options = {"--data": data, "--out": out, "--set": list(overrides), "--method": method}
    options |= {"--init": init, "--format": layout, "--branch": branch}
    resolved = resolve(PretrainRecipe, recipe, overrides)
    start = load_start(init, resolved.sized_arch(), layout=layout, branch=branch) if init else None
    with process_group() as device:
        run = Pretrainer(
            resolved,
            data=data,
            out=out,
            command=command or command_of("pretrain", recipe, options=options),
            name=method,
            start=start,
            device=device,
        )
        path = run.run()
        result: Result = from_first(read_result(path) if path else None)
    return result
