"""Random changes of a crop's pixels: colour jitter, grey, blur, solarise; drawn on the host, applied on
the device to all crops of a batch at once, each with numbers of its own.

The numbers of a crop are functions of (seed, epoch, index, view). The order is that of SimCLR (arXiv:
2002.05709), BYOL, MoCo v3 and DINO: brightness, contrast, saturation and hue in an order that is drawn
too, then grey, blur, solarise. Each is torchvision's function of floating-point images, with its factors
and weights of grey; pixels are not rounded in between. Blur is a Gaussian cut at 23 pixels, reflected
at the edges: BYOL's, and SimCLR's at 224 pixels but for black, which its code has beyond the edges. Code
of MoCo v3 and DINO has Pillow's, three box filters that come close to it. Pixels are solarised from 128
on, as there.

Shapes: N images, V views, B = N * V crops, image after image; C = 3 channels, H x H pixels in 0 to 255;
R random numbers of a crop.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.runtime.randomness import Stream, uniforms
from micl_bench.runtime.values import NotNegative, Probability, Values, Within

BRIGHTNESS, CONTRAST, SATURATION, _HUE = range(4)
_ORDERS = np.array(list(itertools.permutations(range(4))))
# Jitter or not, its four factors, their order, grey, blur or not, its sigma, solarise.
_NUMBERS = 10
_GREY = (0.2989, 0.587, 0.114)
_SIGMA = (0.1, 2.0)
_BLUR_RADIUS = 11
_SOLARISED = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photometric(Values):
    """Probabilities of the changes of a crop, and the strength of colour jitter."""

    jitter: Probability = 0.0
    """Probability of brightness, contrast, saturation and hue, which are all changed or none is."""
    brightness: NotNegative = 0.0
    """The factor is uniform in 1 - b to 1 + b, and not below 0; contrast and saturation likewise."""
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Within(0, 0.5)] = 0.0
    """Hue turns by a share of the circle that is uniform in -h to h."""
    grey: Probability = 0.0
    blur: Probability = 0.0
    """Probability of a blur whose sigma is uniform in 0.1 to 2 pixels, as in every method here."""
    solarise: Probability = 0.0


@dataclasses.dataclass(frozen=True)
class Changes:
    """The numbers that were drawn for B crops."""

    kind_B4: Tensor
    """Of each blend, in its order, the picture that the crop is blended with: black (BRIGHTNESS), its
    mean grey (CONTRAST), or its grey pixels (SATURATION). The last one, after any hue, is grey."""
    factor_B4: Tensor
    """Share of the crop itself; 1 changes nothing."""
    turn_B: Tensor
    """Turn of the hue, as a share of the circle."""
    turned: Tensor
    """Crops whose hue turns, those before the first blend first."""
    turned_before: tuple[int, int, int, int]
    """How many of `turned` turn before each blend."""
    blurred: Tensor
    """Crops that are blurred."""
    sigma: Tensor
    """Of each of them, in pixels."""
    solarised: Tensor
    """Crops that are solarised."""


def draw_changes(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    views: Sequence[Photometric],
    *,
    first: int = 0,
) -> Changes:
    """Draw the changes of each view's crop, as functions of (seed, epoch, index, view); views are
    numbered from `first` on."""
    N, V = len(index_N), len(views)
    places = {"count": V * _NUMBERS, "first": first * _NUMBERS}
    random_NR = uniforms(seed, epoch, index_N, stream=Stream.PHOTOMETRIC, **places)
    random_NVR = random_NR.reshape(N, V, _NUMBERS)
    jitter_V, hue_V, grey_V, blur_V, solarise_V = np.array(
        [[one.jitter, one.hue, one.grey, one.blur, one.solarise] for one in views]
    ).T
    jittered_NV = random_NVR[..., 0] < jitter_V
    spread_V3 = np.array([[one.brightness, one.contrast, one.saturation] for one in views])
    low_V3 = np.maximum(1 - spread_V3, 0)
    factor_NV3 = low_V3 + (1 + spread_V3 - low_V3) * random_NVR[..., 1:4]
    order_NV4 = _ORDERS[(random_NVR[..., 5] * len(_ORDERS)).astype(np.int64)]
    kind_NV3 = order_NV4[order_NV4 != _HUE].reshape(N, V, 3)
    factor_NV3 = np.take_along_axis(factor_NV3, kind_NV3, axis=-1)
    factor_NV3[~jittered_NV] = 1
    # Grey is what no saturation leaves.
    grey_NV1 = np.where(random_NVR[..., 6] < grey_V, 0, 1)[..., None]
    turned_B = (jittered_NV & (hue_V > 0)).reshape(-1)
    place_B = np.where(turned_B, (order_NV4 == _HUE).argmax(-1).reshape(-1), 4)
    turned = [np.flatnonzero(place_B == place) for place in range(4)]
    blurred = np.flatnonzero(random_NVR[..., 7] < blur_V)
    sigma_B = _SIGMA[0] + (_SIGMA[1] - _SIGMA[0]) * random_NVR[..., 8].reshape(-1)
    kind_NV4 = np.concatenate([kind_NV3, np.full((N, V, 1), SATURATION)], axis=-1)
    return Changes(
        kind_B4=torch.from_numpy(kind_NV4.reshape(-1, 4)),
        factor_B4=_floats(np.concatenate([factor_NV3, grey_NV1], axis=-1).reshape(-1, 4)),
        turn_B=_floats((hue_V * (2 * random_NVR[..., 4] - 1)).reshape(-1)),
        turned=torch.from_numpy(np.concatenate(turned)),
        turned_before=(len(turned[0]), len(turned[1]), len(turned[2]), len(turned[3])),
        blurred=torch.from_numpy(blurred),
        sigma=_floats(sigma_B[blurred]),
        solarised=torch.from_numpy(np.flatnonzero(random_NVR[..., 9] < solarise_V)),
    )


def changed(images_BCHW: Tensor, changes: Changes) -> Tensor:
    """Return the changed crops in fp32, not rounded, on their device, which is asked for no value."""
    # A training step's half precision would cost a grey level in the products of a blur.
    with torch.autocast(images_BCHW.device.type, enabled=False):
        images_BCHW = images_BCHW.to(torch.float32, copy=True)
        for place, turned in enumerate(changes.turned.split(changes.turned_before)):
            if len(turned):
                hued = turn_hue(images_BCHW[turned], changes.turn_B[turned])
                images_BCHW.index_copy_(0, turned, hued)
            kind_B, factor_B = changes.kind_B4[:, place], changes.factor_B4[:, place]
            images_BCHW = blend(images_BCHW, kind_B, factor_B)
        if len(changes.blurred):
            blurred = blur(images_BCHW[changes.blurred], changes.sigma)
            images_BCHW.index_copy_(0, changes.blurred, blurred)
        if len(changes.solarised):
            solarised = solarise(images_BCHW[changes.solarised])
            images_BCHW.index_copy_(0, changes.solarised, solarised)
        return images_BCHW


def blend(images_BCHW: Tensor, kind_B: Tensor, factor_B: Tensor) -> Tensor:
    """Return `f * image + (1 - f) * other`, cut to 0 to 255: torchvision's adjust_brightness,
    adjust_contrast or adjust_saturation, by the kind of each image."""
    kind_B111, factor_B111 = kind_B.view(-1, 1, 1, 1), factor_B.view(-1, 1, 1, 1)
    weights_C11 = torch.tensor(_GREY, device=images_BCHW.device).view(3, 1, 1)
    grey_B1HW = (images_BCHW * weights_C11).sum(1, keepdim=True)
    mean_B111 = grey_B1HW.mean((2, 3), keepdim=True) * (kind_B111 == CONTRAST)
    other_B1HW = grey_B1HW * (kind_B111 == SATURATION) + mean_B111
    return torch.lerp(other_B1HW, images_BCHW, factor_B111).clamp_(0, 255)


def turn_hue(images_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Return images whose hue is turned by a share of the circle: torchvision's adjust_hue.

    A colour's hue h, in sixths of the circle, follows from the channels' largest value v and its
    distance s from the smallest; back, a channel is v - s * clamp(min(k, 4 - k), 0, 1), where k is
    (n + h) mod 6 and n is 5, 3, 1 for red, green, blue.
    """
    red, green, blue = images_BCHW.unbind(1)
    value, span = images_BCHW.amax(1), images_BCHW.amax(1) - images_BCHW.amin(1)
    below_red = torch.where(value == green, 2 * span + blue - red, 4 * span + red - green)
    hue = torch.where(value == red, green - blue, below_red) / span.clamp(min=1e-6)
    hue_B1HW = (hue + 6 * turn_B.view(-1, 1, 1)).unsqueeze(1)
    from_C11 = torch.tensor([5.0, 3.0, 1.0], device=images_BCHW.device).view(3, 1, 1)
    k_BCHW = (from_C11 + hue_B1HW).remainder_(6)
    share_BCHW = torch.minimum(k_BCHW, 4 - k_BCHW).clamp_(0, 1)
    return torch.addcmul(value.unsqueeze(1), span.unsqueeze(1), share_BCHW, value=-1)


def blur(images_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Return images blurred by Gaussians of these sigmas, as two matrix products: torchvision's
    gaussian_blur with 23 pixels, or with as many as fit into the image and its reflection."""
    H = images_BCHW.shape[-1]
    place_H = torch.arange(H, device=images_BCHW.device)
    from_H1 = place_H.unsqueeze(1)
    # A pixel itself, and what lies in its place beyond the one and the other edge.
    distance_3HH = torch.stack(
        [place_H - from_H1, place_H + from_H1, 2 * (H - 1) - place_H - from_H1]
    )
    seen_3HH = distance_3HH.abs() <= min(_BLUR_RADIUS, H - 1)
    # The pixel at an edge lies on the mirror.
    seen_3HH[1, :, 0] = seen_3HH[2, :, -1] = False
    exponent_B1HH = distance_3HH.square() / (-2 * sigma_B.square().view(-1, 1, 1, 1))
    weights_BHH = (exponent_B1HH.exp_() * seen_3HH).sum(1)
    weights_B1HH = (weights_BHH / weights_BHH.sum(2, keepdim=True)).unsqueeze(1)
    return weights_B1HH @ images_BCHW @ weights_B1HH.mT


def solarise(images_BCHW: Tensor) -> Tensor:
    """Return images whose bright pixels are inverted: torchvision's solarize at 128."""
    return torch.where(images_BCHW >= _SOLARISED, 255 - images_BCHW, images_BCHW)


def _floats(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
