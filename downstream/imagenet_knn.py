"""k-NN on ImageNet: the protocol of Caron et al. 2021 ("Emerging Properties in Self-Supervised Vision
Transformers", section 4.1 and appendix F), after Wu et al. 2018.

    micl-bench eval knn --checkpoint FILE --recipe imagenet_knn \
        --data DIR/imagenet --out DIR/results

The features of `train` and `val` are computed once and kept for `eval linear` and `eval logistic`;
they take 27 GB for ViT-L (1,331,167 images, 5 readouts of 1,024 numbers).
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.knn.run import KnnRecipe

recipe = KnnRecipe(
    # Short side to 256, bicubic, centre crop of 224: DINO's evaluation transform.
    pixels=Pixels(img_size=224, crop_pct=0.875),
    # Caron et al. try 10, 20, 100 and 200 and find 20 the best for most runs.
    k=20,
    ks=(10, 20, 100, 200),
    # Wu et al. 2018, kept by Caron et al.
    temperature=0.07,
    # [CLS], as Caron et al.; "avg" for networks without one, such as I-JEPA's.
    pool="cls",
    batch_size=256,
    num_workers=8,
)
