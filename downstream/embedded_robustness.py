"""The embedded sets that stand in for ImageNet-A, -R and -Sketch.

    micl-bench eval robustness --checkpoint work/finetune/classifier.pt \
        --recipe embedded_robustness --data work/data --out work/robustness
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.robustness.run import RobustnessRecipe

recipe = RobustnessRecipe(
    sets=("embedded_a", "embedded_r", "embedded_sketch"),
    pixels=Pixels(img_size=32, crop_pct=1.0),
)
