_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["micl_bench.openmmlab"])

model = dict(
    backbone=dict(_delete_=True, type="MiCLViT", checkpoint="work/micl_vit_s16/backbone.pt"),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.1),
    constructor="MiCLViTConstructor",
    paramwise_cfg=dict(layer_decay=0.7),
)
