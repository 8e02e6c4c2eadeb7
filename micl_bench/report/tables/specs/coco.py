"""Detection and instance segmentation on COCO."""

from micl_bench.report.tables.specs._spec import EPOCHS, NETWORK, ScoreColumn, TableSpec


def _scores(kind: str, published: str) -> tuple[ScoreColumn, ...]:
    return tuple(
        ScoreColumn(
            tasks=("coco",),
            metric=f"{kind}_{metric}",
            header=f"{metric} [%]",
            group=kind,
            data="coco",
            published=(("coco_maskrcnn", published), ("coco_cascade", published))
            if metric == "AP"
            else (),
        )
        for metric in ("AP", "AP50", "AP75")
    )


SPEC = TableSpec(
    title="Detection and instance segmentation: Mask R-CNN",
    public_title="Detection and instance segmentation on COCO: Mask R-CNN",
    caption="Average precision of boxes and masks: over IoU thresholds, at 0.5 and at 0.75.",
    rank=4,
    columns=(
        NETWORK,
        EPOCHS,
        *_scores("box", "AP_box"),
        *_scores("mask", "AP_mask"),
    ),
    baselines=("from scratch", "random weights"),
)
