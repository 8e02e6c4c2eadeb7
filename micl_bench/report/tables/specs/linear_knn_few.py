"""Frozen features and few labels: linear probe, k-NN, 1 % and 10 % of the labels."""

from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec

_PROBES = ("linear", "logistic")

SPEC = TableSpec(
    title="Linear probe, k-NN and few labels",
    public_title="ImageNet: linear probe, k-NN and few labels",
    caption="Top-1 accuracy of what is fitted on frozen features, with all, 1 % and 10 % of the labels.",
    rank=2,
    columns=(
        FactColumn(fact="arch", header="network"),
        FactColumn(fact="epochs", header="epochs", group="pre-training"),
        ScoreColumn(
            tasks=("linear",),
            metric="top1",
            header="linear probe",
            group="top-1 [%]",
            published=(("imagenet_linear", "top1"),),
        ),
        ScoreColumn(
            tasks=("logistic",),
            metric="top1",
            header="logistic regression",
            group="top-1 [%]",
        ),
        ScoreColumn(
            tasks=("knn",),
            metric="top1",
            header="k-NN",
            group="top-1 [%]",
            published=(("imagenet_knn", "top1"),),
        ),
        ScoreColumn(
            tasks=_PROBES,
            metric="top1",
            header="1 % of labels",
            group="top-1 [%]",
            labels=0.01,
            published=(("imagenet_1pct", "top1"),),
        ),
        ScoreColumn(
            tasks=_PROBES,
            metric="top1",
            header="10 % of labels",
            group="top-1 [%]",
            labels=0.1,
            published=(("imagenet_10pct", "top1"),),
        ),
    ),
    baselines=("random weights",),
)
