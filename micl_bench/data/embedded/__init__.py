"""A small data set in every format the suite reads, made from scikit-learn's own files.

`write_embedded` builds it, `PARTS` names its parts and the data set that each stands for.
"""

from micl_bench.data.embedded.build import write_embedded
from micl_bench.data.embedded.manifest import PARTS

__all__ = ["PARTS", "write_embedded"]
