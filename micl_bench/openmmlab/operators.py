"""A stand-in for `mmcv._ext`, mmcv's compiled operators, where they are missing.

They have no wheel in the package index and do not build against a current torch, yet `mmdet` cannot
be imported without them. torchvision has the two that Mask R-CNN needs, for CPU and CUDA. Every
other operator exists by name, because mmcv looks its names up when it is imported, and raises when
it is called.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

_NAME = "mmcv._ext"
_MAX = 0  # mmcv's code of RoI-align's pool_mode


class MissingOperatorError(NotImplementedError):
    """An operator of mmcv was called that only its compiled extension has."""


def install() -> bool:
    """Put the stand-in in place if `mmcv._ext` cannot be imported; returns whether it is in place.

    Compiled operators are used untouched. Calling it again changes nothing.
    """
    if _NAME in sys.modules:
        return isinstance(sys.modules[_NAME], _StandIn)
    mmcv = importlib.import_module("mmcv")
    try:
        importlib.import_module(_NAME)
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        # Compiled for another torch: it is there, but no symbol of it can be used.
        warnings.warn(
            f"mmcv's compiled operators do not load ({error}); torchvision's are used", stacklevel=2
        )
    else:
        return False
    stand_in = _StandIn(_NAME, __doc__)
    sys.modules[_NAME] = stand_in
    setattr(mmcv, _NAME.partition(".")[2], stand_in)
    return True


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes kept by greedy non-maximum suppression, best score first.

    With `offset` 1 a box includes its last pixel, so its sides are `x2 - x1 + 1`: the same as moving
    the far corners out by one.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    features_NCHW: Tensor,
    rois_R5: Tensor,
    output_RChw: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    **options: Any,
) -> None:
    """Write the pooled features of every box into `output_RChw`; `options` as `_arguments` has them."""
    scale, height, width, ratio, aligned = _arguments(**options)
    kind = _computed_in(features_NCHW)
    output_RChw.copy_(
        torch.ops.torchvision.roi_align(
            features_NCHW.to(kind), rois_R5.to(kind), scale, height, width, ratio, aligned
        )
    )


def roi_align_backward(
    grad_output_RChw: Tensor,
    rois_R5: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_features_NCHW: Tensor,
    **options: Any,
) -> None:
    """Add the gradient of the features to `grad_features_NCHW`, which mmcv hands over as zeros."""
    scale, height, width, ratio, aligned = _arguments(**options)
    kind, shape = _computed_in(grad_output_RChw), grad_features_NCHW.shape
    grad_features_NCHW.add_(
        torch.ops.torchvision._roi_align_backward(
            grad_output_RChw.to(kind),
            rois_R5.to(kind),
            scale,
            height,
            width,
            *shape,
            ratio,
            aligned,
        )
    )


def _arguments(
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> tuple[float, int, int, int, bool]:
    """mmcv's options of RoI-align in torchvision's order."""
    if pool_mode == _MAX:
        raise MissingOperatorError(
            "RoI-align with pool_mode='max' needs mmcv's compiled operators, which are missing; "
            "use pool_mode='avg'"
        )
    return spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned


def _computed_in(tensor: Tensor) -> torch.dtype:
    """At least float32: torchvision has no kernel for bfloat16, and on CPU none for float16."""
    return torch.promote_types(tensor.dtype, torch.float32)


class _StandIn(ModuleType):
    """The module that takes the compiled one's place."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __init__(self, name: str, doc: str | None) -> None:
        super().__init__(name, doc)
        # No loader: mmcv's and mmengine's own checks for compiled operators are then right.
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        # Python asks modules for dunder names of its own; those are no operators.
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> NoReturn:
            raise MissingOperatorError(
                f"mmcv's operator {name!r} was called, but mmcv's compiled operators are missing "
                "and torchvision has no such one; build mmcv with its operators, or use a "
                "model without it"
            )

        missing.__name__ = name
        return missing
