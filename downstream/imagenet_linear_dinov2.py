"""Linear evaluation on ImageNet by DINOv2's grid (Oquab et al. 2023, and their `dinov2/eval/linear.py`).

    micl-bench eval linear --checkpoint work/micl/backbone.pt \
        --recipe imagenet_linear_dinov2 --data /data/imagenet --out work/linear-dinov2

52 heads are trained at once on one pass of features: 13 learning rates, the last block or the last
four, with and without the mean of the last block's patches. As published, the best head is chosen on
the evaluated images themselves; the record says so and holds the whole grid. To choose on a tenth of
the training images instead: `--set selection=held_out`.

"Code" below is their `linear.py`. What differs: bfloat16 where the model's own is not known. Without
[CLS] (I-JEPA): `--set probe.readouts=[avg_1,avg_4+avg_3+avg_2+avg_1]`.
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.tasks.linear.run import LinearRecipe

recipe = LinearRecipe(
    # Code: torchvision's RandomResizedCrop (area 0.08 to 1), bicubic, flips; evaluation 256 to 224.
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.08, 1.0), flip=True),
    probe=ProbeConfig(
        # Code: n_last_blocks_list [1, 4], avgpool False and True, after the final norm.
        readouts=(
            "cls_1",
            "cls_1+avg_1",
            "cls_4+cls_3+cls_2+cls_1",
            "cls_4+cls_3+cls_2+cls_1+avg_1",
        ),
        # Code: learning_rates; times batch / 256, so 4 times these are in use.
        base_lrs=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
        batch_norm=False,
        optimizer="sgd",  # code: momentum 0.9, no weight decay
        steps=12500,  # code: 10 epochs of 1250 iterations
        warmup_epochs=0,  # code: CosineAnnealingLR to 0 from the first step
        # Code: 128 a GPU; the rates fit 1024 in all (their issue 232): 8 GPUs.
        batch_size=1024,
    ),
    selection="evaluated",  # code: best classifier on the validation set
    precision="bf16",
    num_workers=8,  # code
    save_every_steps=500,
)
