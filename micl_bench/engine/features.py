"""Features and logits of a folder, every image exactly once."""

from collections.abc import Callable

import torch
from torch import Tensor

from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.log import Progress


@torch.inference_mode()
def run_over_folder(
    function: Callable[[Tensor], Tensor],
    folder: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    label: str = "",
) -> tuple[Tensor, Tensor]:
    """Apply `function` to uint8 images (n, 3, H, W); returns outputs_ND fp32 and labels_N.

    Args:
        label: of the progress line; none is shown without.
    """
    outputs, labels = [], []
    batches = evaluation_batches(folder, pixels, batch_size=batch_size, num_workers=num_workers)
    with Progress(label, total=-(-len(folder) // batch_size), quiet=not label) as progress:
        for batch in batches:
            outputs.append(function(batch.images.to(device)).float().cpu())
            labels.append(batch.labels)
            progress.step()
    return torch.cat(outputs), torch.cat(labels)
