"""What is measured as a run goes on: k-NN accuracy, and whether the representation is healthy.

Shapes: N training images, M held-out ones, L patches, P values a patch, V views, D width.
"""

import numpy as np
import torch
from torch import Tensor, nn

from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import Batch, evaluation_batches
from micl_bench.data.visible import Patches
from micl_bench.engine.frozen.knn import knn_scores, top1
from micl_bench.engine.pretraining.health import rankme, uniformity
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.engine.pretraining.parallel import model_of
from micl_bench.patches import patchify
from micl_bench.runtime.distributed import collect_rows, rank, world_size

_BATCH = 128


class Checks:
    """Measures a model in training on held-out images, over all processes."""

    def __init__(
        self,
        train: Source,
        held_out: Source,
        pixels: Pixels,
        *,
        wants: Patches,
        seed: int,
        knn_k: int,
        num_workers: int,
        device: torch.device,
    ) -> None:
        self._train, self._held_out, self._pixels = train, held_out, pixels
        self._wants, self._seed, self._k = wants, seed, knn_k
        self._num_workers, self._device = num_workers, device

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """k-NN top-1 [%], uniformity and RankMe of [CLS] of whole held-out images, and what the
        objective says of them. Every process must call it; only the first gets the numbers, the others
        get none.
        """
        inner = model_of(model).eval()
        train_ND = self._rows(inner, self._train, whole=True)
        test_MD = self._rows(inner, self._held_out, whole=True)
        rows = self._rows(inner, self._held_out, whole=False)
        model.train()
        if rank() != 0:
            return {}
        labels_N, truth_M = (_labels(source) for source in (self._train, self._held_out))
        k = min(self._k, len(train_ND))
        on_device = (tensor.to(self._device) for tensor in (train_ND, labels_N, test_MD))
        scores_MC = knn_scores(*on_device, k=k)
        return {
            "knn_top1": top1(scores_MC.cpu(), truth_M),
            "uniformity": uniformity(test_MD).item(),
            "rankme": rankme(test_MD).item(),
            **inner.objective.health(rows),
        }

    def _rows(self, model: PretrainingModel, source: Source, *, whole: bool) -> Tensor:
        # Equal shares, the last image repeated: FSDP's processes must all take as many batches.
        share = -(-len(source) // world_size())
        own_N = np.arange(rank() * share, (rank() + 1) * share).clip(max=len(source) - 1)
        batches = evaluation_batches(
            source, self._pixels, batch_size=_BATCH, index_N=own_N, num_workers=self._num_workers
        )
        parts, done = [], 0
        for batch in batches:
            index_N = own_N[done : done + len(batch.images)]
            done += len(index_N)
            parts.append(self._encoded(model, batch, index_N, whole).cpu())
        return collect_rows(torch.cat(parts))[: len(source)]

    def _encoded(
        self, model: PretrainingModel, batch: Batch, index_N: np.ndarray, whole: bool
    ) -> Tensor:
        images_NCHW = batch.images.to(self._device)
        if not whole:
            found = self._wants.of_images(images_NCHW, index_N, seed=self._seed)
            rows: Tensor = model(found.patches(), found.keep_NVK)
            return rows
        # A whole image is a single view of all its patches.
        patches_NLP = patchify(images_NCHW, self._wants.patch_size)
        all_L = torch.arange(patches_NLP.shape[1], device=self._device)
        features_N1D = model(patches_NLP, all_L.expand(len(patches_NLP), 1, -1), features=True)
        return features_N1D[:, 0]


def _labels(source: Source) -> Tensor:
    return torch.from_numpy(np.asarray(source.labels_N))
