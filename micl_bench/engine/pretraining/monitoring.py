"""What is measured as a run goes on: k-NN accuracy, and whether the representation is healthy."""

import numpy as np
import torch
from torch import Tensor, nn

from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import Batch, evaluation_batches
from micl_bench.data.visible import DrawViews
from micl_bench.engine.frozen.knn import knn_scores, top1
from micl_bench.engine.pretraining.health import alignment, rankme, uniformity
from micl_bench.engine.pretraining.parallel import encoder_of
from micl_bench.losses import view_cosines
from micl_bench.patches import gather_patches, patchify
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
        draw_views: DrawViews,
        patch_size: int,
        knn_k: int,
        num_workers: int,
        device: torch.device,
    ) -> None:
        self._train, self._held_out, self._pixels = train, held_out, pixels
        self._draw_views, self._patch_size, self._k = draw_views, patch_size, knn_k
        self._num_workers, self._device = num_workers, device

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """k-NN top-1 [%], alignment, uniformity, RankMe, cosines between views of one image and of
        different images; all of held-out images. Every process must call it; only the first gets
        the numbers, the others get none.
        """
        encoder = encoder_of(model).eval()
        train_ND = self._features(encoder, self._train, views=False)
        test_MD = self._features(encoder, self._held_out, views=False)
        views_MVD = self._features(encoder, self._held_out, views=True)
        model.train()
        if rank() != 0:
            return {}
        labels_N, truth_M = (_labels(source) for source in (self._train, self._held_out))
        k = min(self._k, len(train_ND))
        on_device = (tensor.to(self._device) for tensor in (train_ND, labels_N, test_MD))
        scores_MC = knn_scores(*on_device, k=k)
        positive, negative = view_cosines(views_MVD)
        return {
            "knn_top1": top1(scores_MC.cpu(), truth_M),
            "alignment": alignment(views_MVD).item(),
            "uniformity": uniformity(test_MD).item(),
            "rankme": rankme(test_MD).item(),
            "held_out_positive_cosine": positive.item(),
            "held_out_negative_cosine": negative.item(),
        }

    def _features(self, encoder: nn.Module, source: Source, *, views: bool) -> Tensor:
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
            parts.append(self._encode(encoder, batch, index_N, views).cpu())
        return collect_rows(torch.cat(parts))[: len(source)]

    def _encode(self, encoder: nn.Module, batch: Batch, index_N: np.ndarray, views: bool) -> Tensor:
        images_NCHW = batch.images.to(self._device)
        if views:
            keep_NVK = self._draw_views(0, index_N).to(self._device)
            return encoder(gather_patches(images_NCHW, keep_NVK, self._patch_size), keep_NVK)
        # A whole image is a single view of all its patches.
        patches_NLP = patchify(images_NCHW, self._patch_size)
        all_L = torch.arange(patches_NLP.shape[1], device=self._device)
        return encoder(patches_NLP, all_L.expand(len(patches_NLP), 1, -1))[:, 0]


def _labels(source: Source) -> Tensor:
    return torch.from_numpy(np.asarray(source.labels_N))
