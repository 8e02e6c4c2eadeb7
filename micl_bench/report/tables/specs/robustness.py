"""Shifted test sets, with the accuracy on clean images of the same classes and the drop from it."""

from micl_bench.report.tables.specs._spec import NETWORK, ScoreColumn, TableSpec


def _one(data: str, group: str, metric: str, header: str, published: str = "") -> ScoreColumn:
    return ScoreColumn(
        tasks=("robustness",),
        metric=metric,
        header=header,
        group=group,
        data=data,
        published=((published, metric),) if published else (),
    )


def _shifted(data: str, group: str, published: str = "") -> tuple[ScoreColumn, ...]:
    return (
        _one(data, group, "clean_top1", "clean [%]"),
        _one(data, group, "top1", "top-1 [%]", published),
        _one(data, group, "drop", "drop [points]"),
    )


SPEC = TableSpec(
    title="Robustness to shifted test sets",
    caption="Top-1 accuracy; clean is that on the clean images of the same classes, read the same "
    "way, and the drop is clean less shifted. Of mCE, relative to AlexNet's errors, less is better.",
    rank=5,
    columns=(
        NETWORK,
        *_shifted("imagenet-a", "ImageNet-A", "imagenet_a"),
        *_shifted("imagenet-r", "ImageNet-R", "imagenet_r"),
        *_shifted("imagenet-sketch", "ImageNet-Sketch", "imagenet_sketch"),
        # Sources do not say which of the three sets their numbers are of.
        _one("imagenet-v2", "ImageNet-V2, set not stated", "top1", "top-1 [%]", "imagenet_v2"),
        *_shifted("imagenet-v2-matched-frequency", "ImageNet-V2, matched frequency"),
        *_shifted("imagenet-v2-threshold-0.7", "ImageNet-V2, threshold 0.7"),
        *_shifted("imagenet-v2-top-images", "ImageNet-V2, top images"),
        *_shifted("objectnet", "ObjectNet"),
        *_shifted("imagenet-c", "ImageNet-C"),
        _one("imagenet-c", "ImageNet-C", "mCE", "mCE [%]", "imagenet_c"),
        # Nobody measures it: some papers print it instead.
        ScoreColumn(
            tasks=("robustness",),
            header="100 - mCE [%]",
            group="ImageNet-C",
            data="imagenet-c",
            published=(("imagenet_c", "1-mCE"),),
        ),
        _one("imagenet-real", "ImageNet ReaL", "real_top1", "top-1 [%]"),
    ),
    baselines=("from scratch", "random weights"),
)
