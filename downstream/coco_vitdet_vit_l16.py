"""ViTDet on COCO 2017: Mask R-CNN on a ViT-L/16, 100 epochs of 64 images at 1024 x 1024.

    micl-bench eval coco --recipe coco_vitdet_vit_l16 --checkpoint FILE --data FOLDER

As ViT-B's (coco_vitdet_vit_b16.py), whose notes hold here too, but for what stands below: values of
detectron2's mask_rcnn_vitdet_l_100ep, which reports 55.5 box AP and 49.2 mask AP with MAE's ViT-L.
"""

_base_ = "coco_vitdet_vit_b16.py"

model = dict(
    backbone=dict(checkpoint="random:vit_large_patch16_224", drop_path=0.4),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
