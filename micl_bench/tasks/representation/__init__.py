"""Representation: the health of frozen features, measured without labels, and pictures of them."""

from micl_bench.tasks import Metric, Task

TASK = Task(
    name="representation",
    title="Health of the representation",
    place=90,
    downstream=False,
    metrics=(
        Metric(name="positive_cosine", title="positive cosine"),
        Metric(name="negative_cosine", title="negative cosine"),
        Metric(name="alignment", title="alignment"),
        Metric(name="uniformity", title="uniformity"),
        Metric(name="rankme", title="rankme"),
    ),
    shares_features=True,
)
