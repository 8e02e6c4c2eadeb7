"""The speed at which a core prepares the input of pre-training: JPEG files against packed stores.

Per second of processor time, so that neither threads nor what else the machine does flatters or harms
a figure. The files were read before: disks are not measured.

Shapes: N images, M visible patches of all views, P values a patch.
"""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from micl_bench.bench.machine import in_turn
from micl_bench.data.embedded.material import load_photographs
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels, normalise
from micl_bench.data.visible import Patches
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Count, Side, Values, Within
from micl_bench.views import draw_views, patches_per_view

_WIDTH, _HEIGHT, _QUALITY = 500, 375, 90
"""ImageNet's mean size."""
_CROP_SCALE = (0.2, 1.0)
_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderSettings(Values):
    """The images that are loaded, and for how long."""

    images: Count = 256
    batch: Count = 256
    img_size: Side = 224
    patch_size: Side = 16
    store_size: Side = 256
    """Side of the pictures in the image layout."""
    mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.9
    rounds: Count = 5
    seconds: Annotated[float, Within(above=0)] = 1.0
    """Processor time of each way in each round, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch > self.images:
            raise InputError(
                f"the batch is {self.batch}, of {self.images} images; needed: 1 to {self.images}"
            )
        if self.img_size % self.patch_size:
            raise InputError(
                f"patch_size is {self.patch_size}; needed: one that divides img_size, {self.img_size}"
            )
        _ = self.wanted

    @property
    def wanted(self) -> Patches:
        """The visible patches of an image: two random views."""
        number, ratio = (self.img_size // self.patch_size) ** 2, self.mask_ratio
        return Patches(
            num_views=2,
            per_view=patches_per_view(number, mask_ratio=ratio),
            of=number,
            patch_size=self.patch_size,
            draw=functools.partial(draw_views, num_patches=number, mask_ratio=ratio),
        )


def bench_loader(settings: LoaderSettings) -> list[dict[str, Any]]:
    """Measure images per second and core of `folder_pil`, `store_image` and `store_patch`.

    Raises:
        InputError: sizes that do not go together, or too little disk.
    """
    with tempfile.TemporaryDirectory(prefix="micl-bench-loader-") as folder, _one_thread():
        ways = {
            name: functools.partial(_speed, batches, settings.seconds)
            for name, batches in input_batches(Path(folder), settings).items()
        }
        speeds = in_turn("bench loader", ways, rounds=settings.rounds)
    return [
        {"name": name, "images_per_second_per_core": round(statistics.median(found), 1)}
        for name, found in speeds.items()
    ]


def input_batches(folder: Path, settings: LoaderSettings) -> dict[str, Iterator[Tensor]]:
    """Make files and stores in `folder`; endless normalised batches for each way to read them."""
    photographs, side = folder / "photographs", settings.img_size
    write_photographs(photographs, settings.images)
    pictures = pack_folder(
        photographs, folder / "image", layout="image", size=settings.store_size
    ).store
    patches = pack_folder(
        photographs, folder / "patch", layout="patch", size=side, patch_size=settings.patch_size
    ).store
    cropped = Pixels(img_size=side, crop_scale=_CROP_SCALE, flip=True)
    return {
        "folder_pil": _folder_batches(photographs, settings),
        "store_image": _store_batches(pictures, cropped, settings),
        "store_patch": _store_batches(patches, Pixels(img_size=side), settings),
    }


def write_photographs(folder: Path, number: int) -> None:
    """JPEGs of 500 x 375 pixels, each another part of one of scikit-learn's two photographs."""
    random = np.random.default_rng(_SEED)
    photographs = load_photographs()
    for index in range(number):
        which = index % len(photographs)
        photograph, share = photographs[which], random.uniform(0.6, 1.0)
        width, height = round(_WIDTH * share), round(_HEIGHT * share)
        left = int(random.integers(photograph.width - width + 1))
        top = int(random.integers(photograph.height - height + 1))
        part = photograph.crop((left, top, left + width, top + height))
        path = folder / f"photograph_{which}" / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC).save(path, quality=_QUALITY)


def _folder_batches(folder: Path, settings: LoaderSettings) -> Iterator[Tensor]:
    """Whole images the usual way: torchvision's folder and transforms on PIL images."""
    steps = [
        transforms.RandomResizedCrop(
            settings.img_size,
            scale=_CROP_SCALE,
            interpolation=transforms.InterpolationMode.BICUBIC,
        ),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    images = ImageFolder(str(folder), transform=transforms.Compose(steps))
    # torch's own, as everybody has it. It has no other processes that could keep this one waiting.
    loader = DataLoader(images, batch_size=settings.batch, shuffle=True, drop_last=True)
    while True:
        for images_NCHW, _ in loader:
            yield images_NCHW


def _store_batches(store: Store, pixels: Pixels, settings: LoaderSettings) -> Iterator[Tensor]:
    """Visible patches as pre-training with MiCL reads them, normalised: visible_NMP."""
    p = settings.patch_size
    batches = settings.wanted.batches(
        store, pixels, batch_size=settings.batch, seed=_SEED, steps=range(1 << 62)
    )
    for batch in batches:
        visible_NMP = batch.patches()
        yield normalise(visible_NMP.view(-1, 3, p, p)).view(visible_NMP.shape)


def _speed(batches: Iterator[Tensor], seconds: float) -> float:
    """Images per second of processor time, over the given time or a batch."""
    done, start = 0, time.process_time()
    while (took := time.process_time() - start) < seconds:
        done += len(next(batches))
    return done / took


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
