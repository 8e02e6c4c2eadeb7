"""k-NN: weighted nearest neighbours on frozen features (Wu et al. 2018; Caron et al. 2021)."""

from micl_bench.tasks import TOP_1, TOP_5, Metric, Task

TASK = Task(
    name="knn",
    title="k-NN",
    place=20,
    metrics=(
        TOP_1,
        TOP_5,
        Metric(name="top1_k{k}", title="k = {k}", unit="%", better="higher"),
    ),
    # Another seed would give the same number again, and it would count as another.
    draws=False,
    shares_features=True,
)
