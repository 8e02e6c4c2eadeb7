"""Frozen features and few labels: linear probe, k-NN, 1 % and 10 % of the labels."""

from micl_bench.report.tables.specs._spec import EPOCHS, NETWORK, ScoreColumn, TableSpec

_PROBES = ("linear", "logistic")


def _top1(
    header: str, *tasks: str, published: tuple[str, ...] = (), labels: float = 1.0
) -> ScoreColumn:
    return ScoreColumn(
        tasks=tasks,
        metric="top1",
        header=header,
        group="top-1 [%]",
        labels=labels,
        published=tuple((task, "top1") for task in published),
    )


SPEC = TableSpec(
    title="Linear probe, k-NN and few labels",
    public_title="ImageNet: linear probe, k-NN and few labels",
    caption="Top-1 accuracy of what is fitted on frozen features, with all, 1 % and 10 % of the labels.",
    rank=2,
    columns=(
        NETWORK,
        EPOCHS,
        _top1("linear probe", "linear", published=("imagenet_linear",)),
        _top1("logistic regression", "logistic"),
        _top1("k-NN", "knn", published=("imagenet_knn",)),
        _top1("1 % of labels", *_PROBES, published=("imagenet_1pct",), labels=0.01),
        _top1("10 % of labels", *_PROBES, published=("imagenet_10pct",), labels=0.1),
    ),
    baselines=("random weights",),
)
