"""Logistic regression on frozen features, with all labels or few (DINOv2's and MSN's protocols)."""

from micl_bench.tasks import TOP_1, TOP_5, Task

TASK = Task(
    name="logistic",
    title="Logistic regression",
    short="logistic regression",
    place=40,
    metrics=(TOP_1, TOP_5),
    shares_features=True,
)
