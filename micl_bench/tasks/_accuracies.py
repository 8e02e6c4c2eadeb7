"""The metrics that tasks of classification share."""

from micl_bench.records.declared import Metric

TOP_1 = Metric(name="top1", title="top-1", unit="%", better="higher", quoted=True)
TOP_5 = Metric(name="top5", title="top-5", unit="%", better="higher")
