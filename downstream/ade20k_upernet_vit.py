"""Semantic segmentation on ADE20K: UperNet on a plain ViT, 160k steps of 16 images at 512 x 512.

    micl-bench eval ade20k --recipe downstream/ade20k_upernet_vit.py --checkpoint FILE --data FOLDER

FOLDER is `ADEChallengeData2016` as released. The heads fit the width of ViT-B, 768; for ViT-S add
    --set "model.decode_head.in_channels=[384,384,384,384]" --set model.auxiliary_head.in_channels=384

Values: the released BEiT config for self-supervised ViT-B, but for two: the rate, 1e-4, is that of
mmsegmentation's MAE ViT-B config (BEiT: 7e-4), and UPerHead is 512 wide, not 768. Both of them lower the
rate by a factor of 0.65 a block towards the input. THIS CONFIG DOES NOT YET: all blocks have one rate,
so its numbers are not comparable with theirs. Nor has it BEiT's relative positions or anybody's fp16,
and its four maps come from blocks 3, 6, 9 and 12 of 12 (theirs: 4, 6, 8 and 12). Nothing was searched
for any checkpoint, the config was never run at full length, and the mIoU to expect is not known.

One process takes all 16 images. The validation images are used once, after the last step. The newest
model is kept beside the result, but a run cannot be resumed from it.
"""

custom_imports = dict(imports=["micl_bench.openmmlab"], allow_failed_imports=False)
default_scope = "mmseg"

data_root = "data/ADEChallengeData2016"
num_classes, width, side, steps = 150, 768, 512, 160_000

# One process: the same as "BN". Several, under mmengine's own Runner: statistics of all images.
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(side, side),
    ),
    backbone=dict(
        type="MiCLViT", checkpoint="random:vit_base_patch16_224", img_size=side, drop_path=0.1
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[width] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=width,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(side, side), stride=(341, 341)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2048, side), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(side, side), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    # Before the labels are read: predictions are scaled back and compared at the images' own size.
    dict(type="Resize", scale=(2048, side), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        # Label 0 is "other", which is neither trained nor measured.
        reduce_zero_label=True,
        indices=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    # Images differ in size.
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        reduce_zero_label=True,
        indices=None,
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # No decay of norms, biases, positions and [CLS].
    constructor="MiCLViTConstructor",
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=steps),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
randomness = dict(seed=0)
val_cfg = dict(type="ValLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=16_000, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)

# Used above only: `--set` refuses a name that would change nothing.
del num_classes, width, side, steps, norm_cfg, train_pipeline, val_pipeline
