"""Pre-training with one setting changed and all others equal."""

from micl_bench.report.tables.specs._spec import NETWORK, Axis, FactColumn, ScoreColumn, TableSpec


def _top1(task: str, header: str) -> ScoreColumn:
    return ScoreColumn(tasks=(task,), metric="top1", header=header, group="top-1 [%]")


SPEC = TableSpec(
    title="Ablation",
    caption="Pre-trainings that differ in this setting alone.",
    rank=7,
    columns=(
        NETWORK,
        FactColumn(fact="pretrain_data", header="images", group="pre-training"),
        FactColumn(fact="device_hours", header="device-hours", group="pre-training"),
        _top1("finetune", "fine-tuning"),
        _top1("linear", "linear probe"),
        _top1("logistic", "logistic regression"),
        _top1("knn", "k-NN"),
    ),
    axes=(
        Axis(header="mask ratio", path="objective.mask_ratio", default=0.9),
        Axis(header="views", path="objective.num_views", default=2),
        Axis(header="similarity", path="objective.similarity", default="tsp"),
        Axis(header="kappa", path="objective.kappa", default=1 / 64),
        Axis(header="temperature", path="objective.temperature", default=0.07),
        Axis(header="negatives", path="objective.negatives", default="device"),
        Axis(header="batch", path="batch_size"),
        Axis(header="epochs", path="epochs"),
    ),
)
