"""An objective with its networks, outside of a run: from images to the loss.

Shapes: N images, V views, K patches per view, S local crops, h, w their pixels.
"""

from typing import Protocol

import numpy as np
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._output import Output
from micl_bench.patches import gather_patches
from micl_bench.runtime.errors import InputError

_SEEDS = 1 << 62


class Method(Protocol):
    """What `Bound` asks of an objective; each is described there."""

    def wants(self, arch: Arch) -> Patches: ...

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor: ...

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor: ...

    def loss(self, rows: Tensor) -> Output: ...


class Bound(nn.Module):
    """A backbone, under `vit`, and an objective's own modules, under `added`: images in, loss out."""

    def __init__(
        self, objective: Method, arch: Arch, vit: VisionTransformer, added: nn.Module
    ) -> None:
        super().__init__()
        self.objective, self.arch, self.vit, self.added = objective, arch, vit, added

    def forward(
        self,
        images_NCHW: Tensor,
        keep_NVK: Tensor | None = None,
        local_NSChw: Tensor | None = None,
    ) -> Output:
        """The objective's output for a batch, as one process computes it.

        Args:
            images_NCHW: normalised, of the backbone's input size. Where the method sees several crops of
                an image, these, image after image.
            keep_NVK: the visible patches, int64, row-major in the grid; None to draw them, as all else
                that the objective draws, from torch's own generator.
            local_NSChw: normalised local crops of each image, for a method that sees some.

        Raises:
            InputError: images or patches of another shape, or no patches of the grid.
        """
        self._require(images_NCHW)
        wants, device = self.objective.wants(self.arch), images_NCHW.device
        index_N, seed = np.arange(len(images_NCHW)), int(torch.randint(_SEEDS, ()))
        if wants.crops and keep_NVK is not None:
            raise InputError(f"the method sees {wants}, whole: leave keep_NVK out")
        if wants.crops:
            seen = _of_crops(wants, images_NCHW, local_NSChw, seed)
        elif keep_NVK is None:
            seen = wants.of_images(images_NCHW, index_N, seed=seed)
        else:
            if len(keep_NVK) != len(images_NCHW):
                raise InputError(f"{len(keep_NVK)} sets of patches for {len(images_NCHW)} images")
            if keep_NVK.ndim != 3 or keep_NVK.is_floating_point():
                raise InputError(
                    f"keep_NVK is {keep_NVK.dtype} of shape {tuple(keep_NVK.shape)}; needed: whole "
                    "numbers, by image, view and patch"
                )
            places_NVK = self.objective.given(keep_NVK.long(), self.arch)
            needed = (wants.num_views, wants.per_view)
            if places_NVK.shape[1:] != needed:
                raise InputError(
                    f"keep_NVK is {tuple(keep_NVK.shape)}; needed: {needed} for each image"
                )
            require_places(places_NVK, wants.of)
            _, drawn = wants.drawn(seed, 0, index_N)
            seen = Seen(
                gather_patches(images_NCHW, places_NVK, wants.patch_size),
                places_NVK,
                {name: one.to(device) for name, one in drawn.items()},
            )
        return self.objective.loss(self.objective.encode(self.vit, self.added, seen))

    def _require(self, images_NCHW: Tensor) -> None:
        weight = self.vit.patch_embed.proj.weight
        if images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3 or not len(images_NCHW):
            raise InputError(f"images are {tuple(images_NCHW.shape)}; needed: (images, 3, H, W)")
        require_size(self.vit, images_NCHW)
        if images_NCHW.dtype != weight.dtype:
            raise InputError(
                f"images are {images_NCHW.dtype}, the network is {weight.dtype}; convert one of them"
            )


def require_places(keep_NVK: Tensor, num_patches: int) -> None:
    """Raise an InputError where a patch is not in the grid, or stands twice in a view."""
    low, high = (int(one) for one in keep_NVK.aminmax())
    if low < 0 or high >= num_patches:
        raise InputError(
            f"keep_NVK runs from {low} to {high}; the patches are 0 to {num_patches - 1}"
        )
    if bool((keep_NVK.sort(dim=2).values.diff(dim=2) == 0).any()):
        raise InputError("keep_NVK has a patch of an image twice")


def _of_crops(wants: Patches, images_BCHW: Tensor, local_NSChw: Tensor | None, seed: int) -> Seen:
    """Take the wanted patches of crops that the caller made, V of each image."""
    B, V = len(images_BCHW), len(wants.crops)
    if B % V:
        raise InputError(f"{B} crops are no multiple of {V}, which the method sees of each image")
    N, local = B // V, None
    if wants.local is not None:
        own = wants.local.groups[0]
        needed = (N, len(own.views), images_BCHW.shape[1], own.size, own.size)
        if local_NSChw is None or local_NSChw.shape != needed:
            raise InputError(
                f"the method sees {wants}: images of one size are not enough; needed beside them: "
                f"local_NSChw, {needed}"
            )
        local = _of_crops(wants.local, local_NSChw.flatten(0, 1), None, seed)
    keep_NVK, drawn = wants.drawn(seed, 0, np.arange(N))
    keep_NVK = keep_NVK.to(images_BCHW.device)
    patches_BKP = gather_patches(images_BCHW, keep_NVK.flatten(0, 1).unsqueeze(1), wants.patch_size)
    drawn = {name: one.to(images_BCHW.device) for name, one in drawn.items()}
    visible_NMP = patches_BKP.reshape(N, V * keep_NVK.shape[2], -1)
    return Seen(visible_NMP, keep_NVK, drawn, local)


def require_size(vit: VisionTransformer, images_NCHW: Tensor) -> None:
    """Raise an InputError where images have another size than the backbone's positions."""
    height, width = vit.patch_embed.img_size
    if images_NCHW.shape[2:] != (height, width):
        raise InputError(
            f"images are {tuple(images_NCHW.shape[2:])} pixels, the backbone has positions for "
            f"{(height, width)}; load it with img_size, or resize the images"
        )


def fill_own(added: nn.Module, own: dict[str, Tensor], *, needs_all: bool = False) -> list[str]:
    """Fill an objective's modules in place with the tensors of a file, all of these or none.

    Args:
        own: by their names in `added`; a module that is there at all must be there as a whole.
        needs_all: no module may be missing.

    Returns:
        the reasons why nothing was filled, one for each tensor; none where they fit.
    """
    expected = added.state_dict()
    there = {name.partition(".")[0] for name in own}
    problems = [
        f"{name} is missing"
        for name in expected
        if name not in own and (needs_all or name.partition(".")[0] in there)
    ]
    problems += [f"{name} has no place" for name in own if name not in expected]
    problems += [
        f"{name} is {tuple(own[name].shape)}, needed {tuple(value.shape)}"
        for name, value in expected.items()
        if name in own and own[name].shape != value.shape
    ]
    if not problems:
        added.load_state_dict({**expected, **own})
    return problems
