"""Detection and instance segmentation: Mask R-CNN through mmdetection, AP, on data in COCO's layout."""

from micl_bench.records.declared import Metric, Task
from micl_bench.records.result import Result
from micl_bench.tasks._request import Request

TASK = Task(
    name="coco",
    title="Detection and instance segmentation: Mask R-CNN",
    short="Mask R-CNN",
    place=80,
    public_set="coco",
    metrics=(
        Metric(name="box_AP", title="box AP", unit="%", better="higher", quoted=True),
        Metric(name="mask_AP", title="mask AP", unit="%", better="higher", quoted=True),
        Metric(name="box_AP{iou}", title="box AP{iou}", unit="%", better="higher"),
        Metric(name="mask_AP{iou}", title="mask AP{iou}", unit="%", better="higher"),
    ),
    from_config=True,
    seed_key="randomness.seed",
    resumes=True,
)


def run(request: Request) -> list[Result]:
    """Train on `train2017`, measure box and mask AP on `val2017` (annotations/instances_*.json).

    Raises:
        InputError: bad config, checkpoint or data.
        Stopped: a signal asked for it; the same request goes on.
    """
    from micl_bench.tasks._dense import run_config

    return run_config(
        request, TASK, label="detection", library="mmdet", splits=("train2017", "val2017")
    )
