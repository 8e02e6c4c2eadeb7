"""ViTDet on COCO 2017: Mask R-CNN on a ViT-S/16, 100 epochs of 64 images at 1024 x 1024.

    micl-bench eval coco --recipe coco_vitdet_vit_s16 --checkpoint FILE --data FOLDER

As ViT-B's (coco_vitdet_vit_b16.py), whose notes hold here too. The paper has no ViT-S: drop path,
layer decay and rate are ViT-B's, searched by nobody for this size.
"""

_base_ = "coco_vitdet_vit_b16.py"

model = dict(
    backbone=dict(checkpoint="random:vit_small_patch16_224"),
    neck=dict(in_channels=384),
)
