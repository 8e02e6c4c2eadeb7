"""Logistic regression on the embedded digits; `--set fraction=0.1` for a tenth of the labels.

    micl-bench eval logistic --checkpoint work/micl/backbone.pt \
        --recipe embedded_logistic --data work/data/embedded --out work/logistic
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.logistic.run import LogisticRecipe

recipe = LogisticRecipe(
    pixels=Pixels(img_size=32, crop_pct=1.0),
    # A value a decade of DINOv2's range is enough for a thousand images, and a tolerance at which the
    # accuracy of a fit no longer moves.
    c=(1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
    max_iter=500,
    tolerance=1e-6,
)
