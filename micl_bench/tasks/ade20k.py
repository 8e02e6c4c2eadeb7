"""Semantic segmentation: UperNet through mmsegmentation, mIoU, on data in ADE20K's layout."""

from micl_bench.records.declared import Metric, Task
from micl_bench.records.result import Result
from micl_bench.tasks._request import Request

TASK = Task(
    name="ade20k",
    title="Semantic segmentation: UperNet",
    short="UperNet",
    place=70,
    public_set="ade20k",
    metrics=(
        Metric(name="mIoU", title="mIoU", unit="%", better="higher", quoted=True),
        Metric(name="mAcc", title="mAcc", unit="%", better="higher"),
        Metric(name="aAcc", title="aAcc", unit="%", better="higher"),
    ),
    from_config=True,
    seed_key="randomness.seed",
    resumes=True,
)


def run(request: Request) -> list[Result]:
    """Train on `images/training`, measure mIoU on `images/validation` (annotations/... PNG).

    Raises:
        InputError: bad config, checkpoint or data.
        Stopped: a signal asked for it; the same request goes on.
    """
    from micl_bench.tasks._dense import run_config

    return run_config(
        request, TASK, label="segmentation", library="mmseg", splits=("training", "validation")
    )
