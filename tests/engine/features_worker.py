"""Run by torchrun: outputs of a folder for several batch sizes, neighbours for several budgets.

Arguments: data folder, folder for stored features, file that the first process saves all in.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.cache import cached_features
from micl_bench.engine.frozen.features import run_over_folder
from micl_bench.engine.frozen.neighbours import nearest_keys
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.distributed import process_group, rank

ARCH = "vit_demo_patch4_32"
PIXELS = Pixels(img_size=32, crop_pct=1.0)
CPU = torch.device("cpu")
BATCHES, BUDGETS = (7, 64), (100, 2048)
KEYS, QUERIES, K = 40_000, 700, 30


def synthetic() -> tuple[torch.Tensor, torch.Tensor]:
    """Keys in three blocks, the last one not full, many of them equal; queries in two."""
    generator = torch.Generator().manual_seed(3)
    keys_ND = torch.randn(KEYS, 16, generator=generator)
    keys_ND[20_000:30_000] = keys_ND[:10_000]
    keys_ND[-9000:] = keys_ND[0]
    queries_MD = torch.randn(QUERIES, 16, generator=generator)
    queries_MD[:5] = keys_ND[:5]
    return keys_ND, queries_MD


def compute(data: Path, cache: Path) -> dict[str, Any]:
    """Everything whose bits must not depend on how it was cut."""
    found: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        for batch_size in BATCHES:
            outputs = _features(data, cache / str(batch_size), precision, batch_size)
            found |= {f"{name} {precision} {batch_size}": value for name, value in outputs.items()}
    for memory_mib in BUDGETS:
        similarity, index = nearest_keys(*synthetic(), k=K, device=CPU, memory_mib=memory_mib)
        found[f"similarity {memory_mib}"], found[f"index {memory_mib}"] = similarity, index
    return found


def _features(data: Path, cache: Path, precision: str, batch_size: int) -> dict[str, Any]:
    checkpoint, folder = load_checkpoint(f"random:{ARCH}"), open_folder(data)
    model = checkpoint.backbone(img_size=32)
    with at_precision(precision, model, CPU) as watch:
        outputs_ND, labels_N = run_over_folder(
            lambda images: model.forward_features(checkpoint.normalise(images))[:, 0],
            folder,
            PIXELS,
            device=CPU,
            batch_size=batch_size,
        )
        assert watch.seen() in (
            precision,
            "",
        )  # Nothing where there are more processes than slices.
    stored = cached_features(
        checkpoint,
        folder,
        PIXELS,
        device=CPU,
        precision=precision,
        batch_size=batch_size,
        num_workers=0,
        folder=cache,
        label="",
    )
    assert stored.settings["precision"] == precision
    readouts = {name: stored.tensor(name).clone() for name in stored.readouts}
    return {"outputs": outputs_ND, "labels": labels_N, **readouts}


if __name__ == "__main__":
    data, cache, out = map(Path, sys.argv[1:])
    with process_group():
        everything = compute(data, cache)
        if rank() == 0:
            torch.save(everything, out)
