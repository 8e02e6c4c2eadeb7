"""Representation: the health of frozen features, measured without labels, and pictures of them."""

import dataclasses
import functools
from typing import Annotated, Any

import torch

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import Watch
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source, open_source
from micl_bench.engine.frozen.pictures.feature_map import FEWEST, images_of_classes, mapped_images
from micl_bench.engine.frozen.pictures.network_pictures import (
    Arrays,
    attention_arrays,
    chosen_images,
    patch_arrays,
    spread,
)
from micl_bench.engine.frozen.pictures.view_similarity import features_of_views, similarity_arrays
from micl_bench.engine.pretraining.health import rankme, uniformity
from micl_bench.losses import alignment, view_cosines
from micl_bench.objectives import disjoint_views
from micl_bench.records.evidence.evidence import write_named_arrays
from micl_bench.records.result import Result, name_part
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import (
    LARGEST,
    Count,
    NotNegative,
    Precision,
    Seed,
    Values,
    Within,
    Workers,
)
from micl_bench.runtime.wording import counted
from micl_bench.tasks._frozen import feature_details
from micl_bench.tasks._request import Request
from micl_bench.tasks.representation import TASK

Images = Annotated[int, Within(FEWEST, LARGEST)]

_NO_VIEWS = "no plain ViT with [CLS], which masked views take"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepresentationRecipe(Values):
    """Images and views, which are the same for every checkpoint, whatever trained it."""

    pixels: Pixels = Pixels()
    num_views: Annotated[int, Within(2, LARGEST)] = 2
    """Views per image, which share no patch."""
    mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.9
    """Share of patches that no view sees."""
    kappa: NotNegative = 1 / 64
    """Kappa of the T-SP similarity in the picture of similarities."""
    images: Images = 10_000
    """At most so many, spread evenly over the set, for uniformity and RankMe."""
    view_images: Annotated[int, Within(FEWEST, 10_000)] = 2_000
    """At most so many, spread evenly over the set, for views, which are compared in pairs."""
    map_images: Annotated[int, Within(FEWEST, 10_000)] = 1_000
    """At most so many in the map of features, of at most `map_classes` classes, evenly many of each."""
    map_classes: Count = 10
    perplexity: Annotated[float, Within(least=1)] = 30.0
    """Perplexity of the map; a third of its images where that is less."""
    pictures: Annotated[int, Within(1, 100)] = 6
    """Images whose attention and patches are kept."""
    precision: Precision = "fp32"
    """Precision of the backbone: fp32 or bf16; pictures of tokens are always fp32."""
    batch_size: Count = 128
    """Images that are read at a time; moves no number."""
    num_workers: Workers = 0
    seed: Seed = 0
    """Seed of views and of the map."""


RECIPE = RepresentationRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """Measure alignment, uniformity, RankMe and mean cosines on `<data>/val`, with pictures beside the
    record. Masked views are compared where the network is a plain ViT with [CLS]; others take none.
    """
    recipe = request.open(RepresentationRecipe)
    checkpoint, device = request.loaded, request.device
    checkpoint.require_vit(TASK.name)
    source = open_source(request.data / "val")
    if len(source) < FEWEST:
        raise InputError(
            f"{source.root} has {counted(len(source), 'image')}; {FEWEST} or more are needed"
        )
    wants = functools.partial(
        disjoint_views, num_views=recipe.num_views, mask_ratio=recipe.mask_ratio
    )
    with_views = checkpoint.arch.is_plain
    if with_views:
        # Too few patches are refused before the first slow step.
        wants(dataclasses.replace(checkpoint.arch, img_size=recipe.pixels.img_size))
    unchanged = Watch(source)
    stored = request.features(source)
    readout = "cls_1" if checkpoint.arch.class_token else "avg_1"
    features_ND = stored.tensor(readout)[torch.from_numpy(spread(len(source), recipe.images))]
    metrics = {
        "uniformity": uniformity(features_ND).item(),
        "rankme": rankme(features_ND).item(),
    }
    pictures = _pictures(recipe, checkpoint, source, device)
    if with_views:
        views_NVD = features_of_views(
            checkpoint,
            source,
            wants,
            recipe.pixels,
            precision=recipe.precision,
            seed=recipe.seed,
            number=recipe.view_images,
            device=device,
        )
        pictures["similarity"] = similarity_arrays(views_NVD, kappa=recipe.kappa)
        positive, negative = view_cosines(views_NVD)
        metrics = {
            "positive_cosine": positive.item(),
            "negative_cosine": negative.item(),
            "alignment": alignment(views_NVD).item(),
        } | metrics
    else:
        say(f"no views compared: {checkpoint.info.source} is {_NO_VIEWS}")
    unchanged.require_unchanged()
    name = "[CLS]" if readout == "cls_1" else "mean patch"
    on_views, settings = _views(recipe, len(source)) if with_views else ("", {})
    return request.measure(
        TASK,
        metrics,
        protocol=f"{name} of whole images, {recipe.pixels.img_size} px{on_views}",
        settings={
            "pool": name,
            "images": min(recipe.images, len(source)),
            "uniformity": "t = 2, unit features",
            **settings,
            **stored.settings,
        },
        data=source.describe(),
        details=feature_details(val=stored)
        | {"left_out": {} if with_views else {"views": _NO_VIEWS}},
        artifacts={
            kind: _save(request, f"{kind}-{name_part(source.describe().name)}", arrays)
            for kind, arrays in pictures.items()
        },
    )


def _pictures(
    recipe: RepresentationRecipe, checkpoint: Checkpoint, source: Source, device: torch.device
) -> dict[str, Arrays]:
    """The arrays of each picture by its name."""
    images, _ = chosen_images(source, recipe.pixels, recipe.pictures)
    found = {
        "attention": attention_arrays(checkpoint, images, device=device),
        "patches": patch_arrays(checkpoint, images, device=device),
    }
    number, classes = recipe.map_images, recipe.map_classes
    mapped = images_of_classes(source.labels_N, number=number, classes=classes)
    if len(mapped) >= FEWEST:
        found["features"] = mapped_images(
            checkpoint,
            source,
            recipe.pixels,
            number=number,
            classes=classes,
            perplexity=min(recipe.perplexity, len(mapped) / 3),
            seed=recipe.seed,
            device=device,
        )
    return found


def _views(recipe: RepresentationRecipe, images: int) -> tuple[str, dict[str, Any]]:
    """The words in the protocol's line and the settings on the views that are compared."""
    views, ratio = recipe.num_views, recipe.mask_ratio
    return f"; {views} views at mask ratio {ratio:g}", {
        "num_views": views,
        "mask_ratio": ratio,
        "view_images": min(recipe.view_images, images),
        "alignment": "exponent 2, unit features",
    }


def _save(request: Request, name: str, arrays: Arrays) -> str:
    """Write a picture's arrays, on the first process; returns the name that the file got."""
    return write_named_arrays(request.out, name, arrays).name if rank() == 0 else name
