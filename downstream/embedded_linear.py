"""Linear probe on the embedded digits: MAE's protocol at the scale of a thousand images.

    micl-bench eval linear --checkpoint work/micl/backbone.pt \
        --recipe embedded_linear --data work/data/embedded --out work/linear

The rate in use is MAE's, 12.8 x 128 / 256 = 0.1 x 16384 / 256 = 6.4: a step of LARS is a share of the
weights' own norm (0.001 x 6.4), so it is the rate in use that must stay, not the rate per image.
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.tasks.linear.run import LinearRecipe

recipe = LinearRecipe(
    # No crops: features are computed once.
    pixels=Pixels(img_size=32, crop_pct=1.0),
    probe=ProbeConfig(epochs=90, warmup_epochs=10, base_lrs=(12.8,), batch_size=128),
)
