"""Logistic regression on frozen features, with all labels or few (DINOv2's and MSN's protocols)."""

from micl_bench.tasks import Task
from micl_bench.tasks._accuracies import TOP_1, TOP_5

TASK = Task(
    name="logistic",
    title="Logistic regression",
    short="logistic regression",
    place=40,
    metrics=(TOP_1, TOP_5),
    shares_features=True,
)
