"""Linear probe on ImageNet by MAE's protocol (He et al. 2022, appendix A.1, table 10).

    micl-bench eval linear --checkpoint work/micl/backbone.pt \
        --recipe imagenet_linear_mae --data /data/imagenet --out work/linear-mae

For several GPUs put `torchrun --nproc-per-node 8 -m micl_bench` in the place of `micl-bench`. Killed,
the same command goes on from the last saved step.

"Table" below is that table, "code" the authors' `main_linprobe.py`, and "guide" their FINETUNE.md. What
differs from the code: batch norm sees the whole batch (there, each GPU's 512 images); bfloat16 (there,
fp16); where a crop does not fit, torchvision's ten tries (there, one, clipped). The number is that of
the last epoch.

ViT-L and ViT-H: the guide trains 50 epochs, `--set probe.epochs=50`. Published for MAE: ViT-B 68.0,
ViT-L 75.8, ViT-H 76.6 (paper); 67.8, 76.0, 77.2 (guide). For average pooling, which MAE's probe does
not use: `--set probe.readouts=[avg_1]`.
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.tasks.linear.run import LinearRecipe

recipe = LinearRecipe(
    # Table: RandomResizedCrop. Code: 224 pixels, area 0.08 to 1 (torchvision's own range), bicubic,
    # flips; evaluation resizes to 256 and cuts out 224.
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.08, 1.0), flip=True),
    probe=ProbeConfig(
        readouts=("cls_1",),  # guide: --cls_token
        batch_norm=True,  # appendix A.1; code: no affine, eps 1e-6
        optimizer="lars",  # table; momentum 0.9 (table), no weight decay (table)
        base_lrs=(0.1,),  # table; times batch / 256: 6.4
        batch_size=16384,  # table; guide: 32 GPUs x 512
        epochs=90,  # table
        warmup_epochs=10,  # table; cosine to 0 after it
    ),
    precision="bf16",
    num_workers=10,  # code
    save_every_steps=50,
)
