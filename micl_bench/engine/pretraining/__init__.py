"""Pre-training."""

from micl_bench.records.declared import Metric, Task

TASK = Task(
    name="pretrain",
    title="Pre-training",
    short="pre-training",
    place=10,
    downstream=False,
    metrics=(
        # Not ranked: two methods do not share a loss.
        Metric(name="loss", title="loss"),
        Metric(name="knn_top1", title="k-NN top-1", unit="%", better="higher", quoted=True),
        Metric(name="images_per_second", title="images/s", of_machine=True),
        Metric(name="mfu", title="MFU", unit="%", of_machine=True),
        Metric(name="peak_memory_mib", title="peak memory", unit="MiB", of_machine=True),
    ),
    resumes=True,
    leaves="backbone.pt",
)
