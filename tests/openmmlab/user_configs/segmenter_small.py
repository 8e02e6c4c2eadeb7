"""`segmenter.py`, but for a few images of 96 x 96."""

_base_ = "segmenter.py"

loading = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(checkpoint="random:vit_small_patch16_224", img_size=96),
)
few = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=4, pipeline=loading))
train_dataloader = dict(**few, batch_size=2)
val_dataloader = few
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=None)
