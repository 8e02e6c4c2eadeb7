"""Semantic segmentation on ADE20K."""

from micl_bench.report.tables.specs._spec import EPOCHS, NETWORK, ScoreColumn, TableSpec


def _score(metric: str, header: str, *published: str) -> ScoreColumn:
    return ScoreColumn(
        tasks=("ade20k",),
        metric=metric,
        header=header,
        data="ade20k",
        published=tuple(("ade20k_upernet", name) for name in published),
    )


SPEC = TableSpec(
    title="Semantic segmentation: UperNet",
    public_title="Semantic segmentation on ADE20K: UperNet",
    caption="Mean intersection over union, mean accuracy of classes, accuracy of pixels.",
    rank=3,
    columns=(
        NETWORK,
        EPOCHS,
        _score("mIoU", "mIoU [%]", "mIoU", "mIoU_ms_flip"),
        _score("mAcc", "mAcc [%]"),
        _score("aAcc", "aAcc [%]"),
    ),
    baselines=("from scratch", "random weights"),
)
