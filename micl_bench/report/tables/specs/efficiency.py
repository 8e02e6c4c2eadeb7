"""The cost of pre-training: speed, share of the machine's peak, time, memory."""

from micl_bench.report.tables.specs._spec import NETWORK, FactColumn, ScoreColumn, TableSpec


def _measured(metric: str, header: str) -> ScoreColumn:
    return ScoreColumn(tasks=("pretrain",), metric=metric, header=header, labels=None)


SPEC = TableSpec(
    title="Cost of pre-training",
    caption="Speed and MFU are of the whole run without its checks and saves; memory is the most that "
    "was held on one device. Published costs are in their own units, never converted.",
    rank=6,
    columns=(
        NETWORK,
        FactColumn(fact="pretrain_data", header="images"),
        FactColumn(fact="epochs", header="epochs"),
        FactColumn(fact="hardware", header="hardware"),
        _measured("images_per_second", "images/s"),
        _measured("mfu", "MFU [%]"),
        FactColumn(fact="wall_hours", header="hours"),
        FactColumn(fact="device_hours", header="device-hours"),
        _measured("peak_memory_mib", "memory [MiB]"),
        FactColumn(fact="other_cost", header="as published"),
    ),
)
