"""How sure a number is: intervals of a measurement, tests of a difference. Percentages throughout."""

import math

_NORMAL_QUANTILE_95 = 1.959963984540054


def wilson(percentage: float, count: int) -> tuple[float, float]:
    """The Wilson score interval, at 95 %, of an accuracy measured on `count` images; percentages.

    Wilson, JASA 22 (1927): with p the share of successes of n and z the normal quantile,
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). It stays within 0 and 100.
    """
    share, z = percentage / 100, _NORMAL_QUANTILE_95
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / scale
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
