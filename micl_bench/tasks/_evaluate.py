"""An evaluation by one call in Python, the same as `micl-bench eval`."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import nn

from micl_bench.checkpoints import Checkpoint, Statement, in_memory
from micl_bench.records.provenance import command_of
from micl_bench.records.result import Result, require_method
from micl_bench.runtime.distributed import from_first, process_group, rank
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import Request, running
from micl_bench.tasks._out import inputs_of, own_folder, records_before, write_records


def evaluate(
    task: str,
    model: str | Path | nn.Module,
    *,
    data: str | Path,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    method: str = "",
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    pixels: str | None = None,
    strict: bool = False,
    pretrain_name: str = "",
    pretrain_seed: int | None = None,
    img_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    command: str = "",
) -> list[Result]:
    """Evaluate a model on a task; returns its records, and writes them if there is a folder for them.

    The same call again, where `out` has its records, returns them; one that trains goes on where it was
    cut. Started by torchrun, the processes share the work; the first one gets the records, the others
    none.

    Args:
        task: a name that `micl-bench list tasks` shows.
        model: a file of any format that is read, a folder in Hugging Face's layout, `timm:NAME`,
            `public:NAME` or `random:ARCH`. Or a module in memory, which stays as it is: a ViT of timm's,
            as the file of its weights; or any that maps images (N, 3, H, W) to features (N, D) or
            tokens (N, T, D), for `knn`, `linear`, `logistic`, and, where its answer are logits, for
            `robustness`. Of timm's models the features are those before the classifier.
        data: the data folder that the task wants, or `NAME:PLACE` of an image source.
        recipe: a name that `micl-bench list recipes` shows, or a file; None for the task's own values.
        out: folder for records, evidence and the task's other files; None to keep the records alone.
        overrides: `key=value`, each changes one value of the recipe.
        method: row name in tables; empty for the checkpoint's own.
        arch: architecture, where the file's shapes do not show it.
        layout: format of the file, where its keys fit several.
        branch: which of several networks in the file.
        pixels: mean and std that the network was trained with, where the file does not state them.
        strict: refuse a checkpoint about which anything would be assumed.
        pretrain_name: states that the file is of the pre-training of this name, one of several that
            differ in their seed alone; `pretrain_seed` is that seed.
        img_size: side of a module's input in pixels, where it has no timm config.
        mean, std: of the pixels (0 to 1) that a module was trained with, where it has no timm config;
            without them ImageNet's are assumed, and marked so.
        command: the command line that the records repeat; empty for the one that does the same.

    Raises:
        InputError: a bad task, model, recipe, override or data, or `out` holds other results.
        Stopped: a signal asked a task that trains to stop; its state is saved.

    Example:
        (result,) = micl_bench.evaluate(
            "knn", "work/micl/backbone.pt", data="work/data/embedded", recipe="embedded_knn"
        )
        print(result.metrics["top1"].value, result.metrics["top1"].interval)
    """
    module = running(task)
    require_method(method)
    if bool(pretrain_name) != (pretrain_seed is not None):
        raise InputError("--pretrain-name and --pretrain-seed say one thing together: give both")
    named = None if pretrain_seed is None else Statement(name=pretrain_name, seed=pretrain_seed)
    checkpoint: str | Checkpoint = str(model)
    shown = checkpoint
    if isinstance(model, nn.Module):
        if any(one is not None for one in (arch, layout, branch, pixels)):
            raise InputError(
                "arch, layout, branch and pixels describe files; the module in memory takes none of them"
            )
        checkpoint = in_memory(model, img_size=img_size, mean=mean, std=std)
        shown = f"<{type(model).__name__} in memory>"
    elif any(one is not None for one in (img_size, mean, std)):
        raise InputError(
            "img_size, mean and std describe a module in memory; for a file give pixels and arch"
        )
    options = {
        "--checkpoint": shown,
        "--data": data,
        "--out": out,
        "--arch": arch,
        "--format": layout,
        "--branch": branch,
        "--pixels": pixels,
        "--strict": strict,
        "--recipe": recipe,
        "--set": list(overrides),
        "--method": method,
        "--pretrain-name": pretrain_name,
        "--pretrain-seed": pretrain_seed,
    }
    with process_group() as device, _folder(out) as folder:
        request = Request(
            checkpoint=checkpoint,
            arch=arch,
            layout=layout,
            branch=branch,
            pixels=pixels,
            strict=strict,
            data=Path(data),
            out=folder,
            recipe=None if recipe is None else Path(recipe),
            overrides=tuple(overrides),
            method=method,
            command=command or command_of("eval", task, options=options),
            statement=named,
            device=device,
        )
        first = rank() == 0
        with own_folder(folder, task) if first else contextlib.nullcontext():
            # The first process's, before anything is measured: inputs may change meanwhile.
            inputs = inputs_of(request, task) if first else {}
            done = records_before(request, task, inputs) if first else []
            if not from_first(bool(done)):
                results = module.run(request)
                done = write_records(folder, task, results, inputs) if first else []
    return done


@contextlib.contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """The folder that is given, or one that all processes see and that goes in the end."""
    if out is not None:
        yield Path(out)
        return
    folder = Path(from_first(tempfile.mkdtemp(prefix="micl-bench-") if rank() == 0 else ""))
    try:
        yield folder
    finally:
        if rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
