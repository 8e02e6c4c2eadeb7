"""Semantic segmentation: UperNet through mmsegmentation, mIoU, on data in ADE20K's layout."""

from micl_bench.records.result import Result
from micl_bench.tasks._dense import run_config
from micl_bench.tasks._request import Request


def run(request: Request) -> list[Result]:
    """Train on `images/training`, measure mIoU on `images/validation` (annotations/... PNG).

    Raises:
        InputError: bad config, checkpoint or data.
        Stopped: a signal asked for it; the same request goes on.
    """
    return run_config(
        request,
        task="ade20k",
        label="segmentation",
        library="mmseg",
        splits=("training", "validation"),
        needed=[
            f"{kind}/{split}"
            for split in ("training", "validation")
            for kind in ("images", "annotations")
        ],
    )
