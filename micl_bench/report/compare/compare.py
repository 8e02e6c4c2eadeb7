"""A comparison by one call: what `micl-bench compare` does, for Python."""

from pathlib import Path

import pandas as pd

from micl_bench.report.compare.comparison import compare_all
from micl_bench.report.compare.comparison_output import as_frame
from micl_bench.report.compare.contenders import read_contenders


def compare(*results: str | Path) -> pd.DataFrame:
    """Test whether methods differ, on every task, data set and metric that two of them share.

    One run of each: a paired test on the per-image evidence beside the records (McNemar's exact test,
    or the paired bootstrap). Several runs of each: Welch's test over the runs. P-values are adjusted
    by Holm's method for all tests of the call. Only numbers of one protocol fingerprint, the same
    images and the same training images are compared.

    Args:
        results: two or more; for each method a record file, or a folder of records.

    Returns:
        A row per pair of methods and metric: `task`, `data`, `split`, `protocol`, `fingerprint`,
        `metric`, `unit`, `better`; `first` and `second` (as given), `first_value` and `second_value`
        (means over runs), `difference` (first less second) with its 95 % interval `low` to `high`, all
        in `unit`; `test`, `p`, `adjusted_p`, and the `verdict` in words. What was not tested has NaN,
        and the reason in `verdict`.

    Raises:
        InputError: fewer than two, no records, or nothing that can be compared.

    Example:
        table = micl_bench.compare("work/results/knn", "work/results/knn-random")
        print(table[["metric", "difference", "low", "high", "verdict"]])
    """
    contenders = read_contenders([Path(one) for one in results])
    return as_frame(compare_all(contenders), contenders)
