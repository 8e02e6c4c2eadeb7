"""Predictions at several scales, mirrored too, averaged, as BEiT and iBOT measure ADE20K "multi-scale".

The scales, and that no image gets smaller than the window that slides over it, are those of their
released configs whose names end in `_ms`. In a config: both names below, the segmentor as `model.type`
and the transform as the last step of the validation pipeline. mmsegmentation has `SegTTAModel` for the
same mean, but it wraps a model that is only tested, so that no run can train and then measure with it,
and it holds the scores of all variants at once: 12 times 150 classes of every pixel.

Shapes: C classes, H x W pixels of the image as it is in the data set.
"""

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import TestTimeAug
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS, TRANSFORMS
from torch import Tensor

from micl_bench.runtime.errors import InputError

# Wider than any image: only the short side counts.
_ANY_LENGTH = 100_000


@TRANSFORMS.register_module()
class MultiScaleFlip(TestTimeAug):
    """One image at several sizes, each as it is and mirrored, with its labels unchanged.

    Gives `inputs` and `data_samples` as lists, one element per variant: the sizes in order, for each the
    image as it is before its mirror image.
    """

    def __init__(self, *, short_sides: Sequence[int]) -> None:
        """Take the short sides that the image is scaled to, in pixels.

        Raises:
            InputError: no side, or one below 1.
        """
        if not short_sides or min(short_sides) < 1:
            raise InputError(f"short_sides {list(short_sides)} must be pixels, one or more of them")
        resize = {"type": "Resize", "keep_ratio": True}
        sizes = [{**resize, "scale": (_ANY_LENGTH, side)} for side in short_sides]
        flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
        # After both: truth is compared at the image's own size, the right way round.
        super().__init__([sizes, flips, [{"type": "LoadAnnotations"}], [{"type": "PackSegInputs"}]])


@MODELS.register_module()
class MultiScaleEncoderDecoder(EncoderDecoder):
    """`EncoderDecoder` whose validation and test steps take the variants of `MultiScaleFlip`.

    The class of a pixel is that of the highest mean probability over the variants. Training is
    `EncoderDecoder`'s own.
    """

    def val_step(self, data: dict[str, Any]) -> list[Any]:
        """Predict; returns a data sample per image, with `pred_sem_seg` (1, H, W).

        Args:
            data: `inputs` and `data_samples`, each a list of variants, each a list of images.

        Raises:
            InputError: images that are not in variants, as `MultiScaleFlip` gives them.
        """
        if not isinstance(data["inputs"][0], list | tuple):
            raise InputError(
                "MultiScaleEncoderDecoder needs MultiScaleFlip as the last step of the validation "
                "pipeline"
            )
        images: list[Any] = []
        sums: list[Tensor] = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            found = super().val_step({"inputs": inputs, "data_samples": samples})
            for number, sample in enumerate(found):
                probability_CHW = sample.seg_logits.data.softmax(dim=0)
                del sample.seg_logits
                if len(sums) < len(found):
                    images.append(sample)
                    sums.append(probability_CHW)
                else:
                    # In place: one sum per image is held, not one per variant.
                    sums[number].add_(probability_CHW)
        for sample, sum_CHW in zip(images, sums, strict=True):
            sample.pred_sem_seg = PixelData(data=sum_CHW.argmax(dim=0, keepdim=True))
        return images

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """Do the same as `val_step`."""
        return self.val_step(data)
