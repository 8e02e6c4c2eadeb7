"""What records of classifiers on frozen features share: each image's prediction, and words."""

import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.folder import Folder
from micl_bench.records.evidence.predictions import Predictions


def classified(folder: Folder, logits_MC: Tensor) -> Predictions:
    """top1, and top5 where there are more than five classes, for every image of a folder."""
    labels_M = torch.from_numpy(folder.labels_N)
    best_M = logits_MC.argmax(dim=1)
    right = {"top1": best_M == labels_M}
    if logits_MC.shape[1] > 5:
        five_M5 = logits_MC.topk(5, dim=1).indices
        right["top5"] = (five_M5 == labels_M[:, None]).any(dim=1)
    return Predictions(
        files=folder.names,
        classes=folder.classes,
        labels_M=folder.labels_N,
        predicted={"top1": best_M.numpy()},
        correct={name: value.to(torch.int8).numpy() for name, value in right.items()},
    )


def readout_words(readout: str, checkpoint: Checkpoint) -> str:
    """A readout of a checkpoint as a protocol's line calls it."""
    if checkpoint.features:
        return checkpoint.features
    return {"cls_1": "[CLS]", "avg_1": "patch mean"}.get(readout, readout)
