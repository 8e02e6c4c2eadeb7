"""k-NN on the embedded digits.

    micl-bench eval knn --checkpoint work/micl/backbone.pt --recipe embedded_knn \
        --data work/data/embedded --out work/knn
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.knn.run import KnnRecipe

# About 108 training images a class: 10 neighbours are a tenth of them, 200 of ImageNet's a sixth.
recipe = KnnRecipe(pixels=Pixels(img_size=32, crop_pct=1.0), k=10, ks=(10, 20, 100, 200))
