"""Who computes COCO's average precision: pycocotools, or faster-coco-eval with the same numbers.

faster-coco-eval does in C++ what pycocotools does in Python: matching detections with objects, and
precision over recall.
"""

from pycocotools.cocoeval import COCOeval

from micl_bench.runtime.errors import InputError

BACKENDS = ("pycocotools", "faster_coco_eval")


def evaluator(backend: str) -> type:
    """The class with pycocotools' `COCOeval(truth, detections, iou_type)` that a backend offers.

    `evaluate()`, `accumulate()` and `summarize()` fill `eval` and `stats`. Results of single images,
    `evalImgs`, are pycocotools' alone.

    Raises:
        InputError: unknown backend, or one that is not installed.
    """
    if backend not in BACKENDS:
        raise InputError(
            f"unknown backend {backend!r} of COCO's evaluation; known: {', '.join(BACKENDS)}"
        )
    if backend == "pycocotools":
        return COCOeval
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise InputError(
            f"backend 'faster_coco_eval' cannot be used ({error}): pip install faster-coco-eval, or "
            "set val_evaluator.backend=pycocotools"
        ) from error
    # Its own summary takes AP over as many detections as there are, not over pycocotools' 100.
    return type("FasterCOCOeval", (COCOeval_faster,), {"summarize": COCOeval.summarize})
