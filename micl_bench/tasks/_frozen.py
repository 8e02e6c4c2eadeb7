"""Frozen [CLS] features of a training and a held-out folder: what k-NN and linear probes read."""

import dataclasses

from torch import Tensor

from micl_bench.backbone import class_features
from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.engine.features import run_over_folder
from micl_bench.tasks._request import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenFeatures:
    """Features (images, width) fp32 and labels (images,) of `<data>/train` and `<data>/val`."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    train_folder: Folder
    test_folder: Folder


def extract(
    session: Session, pixels: Pixels, *, batch_size: int, num_workers: int
) -> FrozenFeatures:
    """Run the frozen backbone once over both folders.

    Raises:
        InputError: a missing folder, an empty class, an unreadable image.
    """
    train = open_folder(session.request.data / "train")
    test = open_folder(session.request.data / "val", classes=train.classes)
    model = session.checkpoint.backbone(img_size=pixels.img_size).to(session.device)
    (train_ND, labels_N), (test_MD, truth_M) = (
        run_over_folder(
            lambda images: class_features(model, session.checkpoint.normalise(images)),
            folder,
            pixels,
            device=session.device,
            batch_size=batch_size,
            num_workers=num_workers,
            label=f"features of {folder.root.name}",
        )
        for folder in (train, test)
    )
    return FrozenFeatures(
        train=train_ND,
        train_labels=labels_N,
        test=test_MD,
        test_labels=truth_M,
        train_folder=train,
        test_folder=test,
    )
