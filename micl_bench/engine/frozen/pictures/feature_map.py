"""Features of images on a plane, by t-SNE (van der Maaten and Hinton 2008).

Shapes: N images, D width.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.frozen.features import read_out
from micl_bench.engine.frozen.pictures.network_pictures import Arrays, spread
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.errors import InputError

FEWEST = 4
"""Images that a map takes."""
_BATCH = 64


def images_of_classes(
    labels_N: NDArray[np.integer], *, number: int, classes: int
) -> NDArray[np.int64]:
    """Indices of at most `number` images of at most `classes` classes, each spread evenly.

    Classes are spread evenly in their order; each gives the same number of images, as far as it has
    them.
    """
    present = np.unique(labels_N)
    taken = present[spread(len(present), classes)]
    share = max(1, number // len(taken))
    own = [np.flatnonzero(labels_N == label) for label in taken]
    return np.sort(np.concatenate([index_n[spread(len(index_n), share)] for index_n in own]))


def map_arrays(
    features_ND: NDArray[np.floating],
    labels_N: NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    perplexity: float,
    seed: int,
) -> Arrays:
    """The arrays of a map: `places_N2`, `label_N` (into `classes`), `classes`, and `perplexity`.

    Unit features: neighbours are those by cosine. The start is their first two principal components.
    """
    if len(features_ND) < FEWEST:
        raise InputError(f"a map of features takes {FEWEST} images or more, not {len(features_ND)}")
    if not 1 <= perplexity < len(features_ND):
        raise InputError(
            f"perplexity is {perplexity:g}; for {len(features_ND)} images it must be at least 1 and "
            f"below {len(features_ND)}"
        )
    from sklearn.manifold import TSNE

    features_ND = np.asarray(features_ND, dtype=np.float64)
    norms_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    unit_ND = features_ND / np.maximum(norms_N1, np.finfo(float).tiny)
    places_N2 = TSNE(
        2,
        perplexity=perplexity,
        init="pca",
        learning_rate="auto",
        # scikit-learn takes no larger one.
        random_state=seed & 0xFFFFFFFF,
    ).fit_transform(unit_ND)
    present, label_N = np.unique(labels_N, return_inverse=True)
    return {
        "places_N2": places_N2.astype(np.float32),
        "label_N": label_N.astype(np.int64),
        "classes": np.array([classes[label] for label in present]),
        "perplexity": np.array(float(perplexity)),
    }


@torch.inference_mode()
def mapped_images(
    checkpoint: Checkpoint,
    source: Source,
    pixels: Pixels,
    *,
    number: int,
    classes: int,
    perplexity: float,
    seed: int,
    device: torch.device,
) -> Arrays:
    """`map_arrays` of at most `number` images: [CLS] after the final norm, else the mean patch.

    Raises:
        InputError: too few images, an unreadable one, or a perplexity that they do not allow.
    """
    index_N = images_of_classes(source.labels_N, number=number, classes=classes)
    vit = checkpoint.backbone(img_size=pixels.img_size).to(device)
    features = []
    with at_precision("fp32", vit, device):
        for batch in evaluation_batches(source, pixels, batch_size=_BATCH, index_N=index_N):
            # The first readout is that of [CLS], or of the mean patch where there is none.
            read_NRD = read_out(vit, checkpoint.normalise(batch.images.to(device)))
            features.append(read_NRD[:, 0].cpu())
    labels_N = np.asarray(source.labels_N)[index_N]
    return map_arrays(
        torch.cat(features).numpy(), labels_N, source.classes, perplexity=perplexity, seed=seed
    )
