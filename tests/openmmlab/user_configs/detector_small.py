"""`detector.py`, but for a few images of 96 x 96 with classes of their own."""

_base_ = "detector.py"

loading = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
model = dict(
    backbone=dict(checkpoint="random:vit_small_patch16_224"),
    roi_head=dict(bbox_head=dict(fc_out_channels=32, num_classes=10)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(max_per_img=10)),
)
few = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        indices=4,
        metainfo=dict(classes=tuple(f"digit_{digit}" for digit in range(10))),
        pipeline=[loading[0], dict(type="Resize", scale=(96, 96), keep_ratio=True), *loading[1:]],
    ),
)
train_dataloader = dict(**few, batch_size=2)
val_dataloader = few
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2, val_interval=2)
# Two images an iteration, where the full config has 16.
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(checkpoint=None)
