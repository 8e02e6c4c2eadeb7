"""Measurements as a run goes on: k-NN accuracy, and the health of the representation without labels.

Shapes: N images (of training, where M are held out), L patches, P values of a patch, V views, D width.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.data.visible import Patches, Seen
from micl_bench.engine.frozen.knn import knn_scores, top1
from micl_bench.engine.pretraining.model import model_of
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.patches import patchify
from micl_bench.runtime.distributed import collect_rows, rank, world_size

_BATCH = 128
# Pairs at a time: 256 MiB of fp32 distances.
_CHUNK_ELEMENTS = 1 << 26


@dataclasses.dataclass(frozen=True)
class Checks:
    """Measures a model in training on held-out images, over all processes."""

    train: Source
    held_out: Source
    recipe: PretrainRecipe
    wants: Patches
    """The patches of an image that the objective sees."""
    device: torch.device

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """k-NN top-1 [%], uniformity and RankMe of [CLS] of whole held-out images, and the objective's
        own numbers, by name. Every process must call it; only the first gets the numbers.
        """
        inner = model_of(model).eval()

        def whole(images_NCHW: Tensor, _: NDArray[np.integer]) -> Tensor:
            # A whole image is a single view of all its patches.
            patches_NLP = patchify(images_NCHW, self.wants.patch_size)
            all_L = torch.arange(patches_NLP.shape[1], device=self.device)
            places_N1L = all_L.expand(len(patches_NLP), 1, -1)
            return inner(Seen(patches_NLP, places_N1L), features=True)[:, 0]

        def visible(images_NCHW: Tensor, index_N: NDArray[np.integer]) -> Tensor:
            return inner(self.wants.of_images(images_NCHW, index_N, seed=self.recipe.seed))

        train_ND, test_MD = self._rows(self.train, whole), self._rows(self.held_out, whole)
        rows = self._rows(self.held_out, visible)
        model.train()
        if rank() != 0:
            return {}
        labels_N, truth_M = (
            torch.from_numpy(np.asarray(source.labels_N)) for source in (self.train, self.held_out)
        )
        on_device = (tensor.to(self.device) for tensor in (train_ND, labels_N, test_MD))
        scores_MC = knn_scores(*on_device, k=min(self.recipe.knn_k, len(train_ND)))
        return {
            "knn_top1": top1(scores_MC.cpu(), truth_M),
            "uniformity": uniformity(test_MD).item(),
            "rankme": rankme(test_MD).item(),
            **inner.objective.health(rows),
        }

    def _rows(
        self, source: Source, encode: Callable[[Tensor, NDArray[np.integer]], Tensor]
    ) -> Tensor:
        """The rows of all images, on the first process; `encode` takes images and their numbers."""
        # Equal shares, the last image repeated: FSDP's processes must all take as many batches.
        share = -(-len(source) // world_size())
        own_N = np.arange(rank() * share, (rank() + 1) * share).clip(max=len(source) - 1)
        batches = evaluation_batches(
            source,
            self.recipe.pixels,
            batch_size=_BATCH,
            index_N=own_N,
            num_workers=self.recipe.num_workers,
        )
        parts, done = [], 0
        for batch in batches:
            index_N = own_N[done : done + len(batch.images)]
            done += len(index_N)
            parts.append(encode(batch.images.to(self.device), index_N).cpu())
        return collect_rows(torch.cat(parts))[: len(source)]


def uniformity(features_ND: Tensor) -> Tensor:
    """log of the mean over pairs of images of exp(-2 |x - y|^2) of unit features (Wang and Isola
    2020, t = 2); 0 when all are equal, towards -4 when they fill the sphere."""
    unit_ND = F.normalize(features_ND, dim=-1)
    N = len(unit_ND)
    total = unit_ND.new_zeros((), dtype=torch.float64)
    for part_nD in unit_ND.split(max(1, _CHUNK_ELEMENTS // N)):
        squared_nN = 2 - 2 * (part_nD @ unit_ND.T)
        total += torch.exp(-2 * squared_nN.clamp_min(0)).sum(dtype=torch.float64)
    # Each image with itself counts exp(0) = 1.
    return torch.log((total - N) / (N * (N - 1)))


def rankme(features_ND: Tensor) -> Tensor:
    """Effective rank: exp of the entropy of the normalised singular values (Garrido et al. 2023);
    from 1, a collapse to one direction, to min(N, D)."""
    singular = torch.linalg.svdvals(features_ND.double())
    share = singular / singular.sum() + 1e-7
    return torch.exp(-(share * share.log()).sum())
