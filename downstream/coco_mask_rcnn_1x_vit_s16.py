"""Mask R-CNN with FPN on COCO 2017, 1x schedule: ViT-S/16, 12 epochs of 32 images, up to 800 x 1333.

    micl-bench eval coco --recipe coco_mask_rcnn_1x_vit_s16 --checkpoint FILE --data FOLDER

As ViT-B's (coco_mask_rcnn_1x_vit_b16.py), whose notes hold here too. CAE released no config for ViT-S:
drop path 0.1 is that of the model file which its configs start from, and of iBOT's for ViT-S; rate and
layer decay are ViT-B's (iBOT's for ViT-S: 1e-4 and also 0.75).
"""

_base_ = "coco_mask_rcnn_1x_vit_b16.py"

model = dict(
    backbone=dict(checkpoint="random:vit_small_patch16_224", drop_path=0.1),
    neck=dict(in_channels=[384] * 4),
)
