"""Health of the representation on the embedded digits, and pictures of what it holds.

    micl-bench eval representation --checkpoint work/micl/backbone.pt \
        --recipe embedded_representation --data work/data/embedded \
        --out work/representation
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.representation.run import RepresentationRecipe

# Views as pretrain/embedded.py draws them.
recipe = RepresentationRecipe(
    pixels=Pixels(img_size=32, crop_pct=1.0),
    mask_ratio=0.5,
    map_images=360,
)
