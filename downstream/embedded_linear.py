"""Linear probe on the embedded digits.

    micl-bench eval linear --checkpoint work/micl/backbone.pt \
        --recipe downstream/embedded_linear.py --data work/data/embedded --out work/linear
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.probe import ProbeConfig
from micl_bench.tasks.linear import LinearRecipe

recipe = LinearRecipe(
    pixels=Pixels(img_size=32, crop_pct=1.0),
    probe=ProbeConfig(epochs=90, base_lr=0.1, batch_size=128),
)
