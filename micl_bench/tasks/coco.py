"""Detection and instance segmentation: Mask R-CNN through mmdetection, AP, on data in COCO's layout."""

from micl_bench.records.result import Result
from micl_bench.tasks._dense import run_config
from micl_bench.tasks._request import Request


def run(request: Request) -> list[Result]:
    """Train on `train2017`, measure box and mask AP on `val2017` (annotations/instances_*.json).

    Raises:
        InputError: bad config, checkpoint or data.
        Stopped: a signal asked for it; the same request goes on.
    """
    return run_config(
        request,
        task="coco",
        label="detection",
        library="mmdet",
        splits=("train2017", "val2017"),
        needed=[
            place
            for split in ("train2017", "val2017")
            for place in (split, f"annotations/instances_{split}.json")
        ],
    )
