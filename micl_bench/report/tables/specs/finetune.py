"""Fine-tuning against what the pre-training took."""

from micl_bench.report.tables.specs._spec import EPOCHS, NETWORK, FactColumn, ScoreColumn, TableSpec

SPEC = TableSpec(
    title="Fine-tuning against pre-training epochs and cost",
    public_title="ImageNet fine-tuning against pre-training epochs and cost",
    caption="Top-1 accuracy after end-to-end fine-tuning, beside what the pre-training took.",
    rank=1,
    columns=(
        NETWORK,
        FactColumn(fact="input", header="input [px]"),
        FactColumn(fact="pretrain_data", header="images", group="pre-training"),
        EPOCHS,
        FactColumn(fact="device_hours", header="device-hours", group="pre-training"),
        FactColumn(fact="wall_hours", header="hours", group="pre-training"),
        ScoreColumn(
            tasks=("finetune",),
            metric="top1",
            header="top-1 [%]",
            group="fine-tuning",
            published=(("imagenet_finetune", "top1"),),
        ),
    ),
    baselines=("from scratch", "random weights"),
)
