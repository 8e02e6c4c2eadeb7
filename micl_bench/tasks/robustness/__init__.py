"""Robustness: a classifier on shifted test sets, and the drop against the clean set's same classes."""

from micl_bench.tasks import TOP_1, Metric, Task

TASK = Task(
    name="robustness",
    title="Robustness to shifted test sets",
    short="robustness",
    place=60,
    # Each shifted set stands for itself.
    public_set="",
    metrics=(
        TOP_1,
        Metric(name="mCE", title="mCE", unit="%", better="lower", quoted=True),
        Metric(name="real_top1", title="ReaL top-1", unit="%", better="higher"),
        Metric(name="clean_top1", title="clean top-1", unit="%", better="higher"),
        # Not ranked: a model at chance, with nothing to lose, would win.
        Metric(name="drop", title="drop", unit="points"),
        Metric(
            name="top1_of_{classes}",
            title="top-1 of all {classes:,}",
            unit="%",
            better="higher",
            beside="top1",
        ),
        Metric(
            name="clean_top1_of_{classes}",
            title="clean top-1 of all {classes:,}",
            unit="%",
            better="higher",
            beside="clean_top1",
        ),
    ),
)
