_base_ = [
    "mmseg::_base_/models/segformer_mit-b0.py",
    "mmseg::_base_/datasets/ade20k.py",
    "mmseg::_base_/default_runtime.py",
    "mmseg::_base_/schedules/schedule_160k.py",
]
custom_imports = dict(imports=["micl_bench.openmmlab"])

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True, type="MiCLViT", checkpoint="work/micl_vit_s16/backbone.pt", img_size=512
    ),
    decode_head=dict(in_channels=[384] * 4, num_classes=150),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    constructor="MiCLViTConstructor",
    paramwise_cfg=dict(layer_decay=0.75),
)
