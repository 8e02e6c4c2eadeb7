"""The gradient of a loss that contrasts a whole batch, in memory for a part of it.

A contrastive loss is no sum over images: cutting the batch and averaging changes the negatives, and
so the method. But it depends on the weights through the features alone. So the features of all parts
are computed first, without keeping activations; then the loss and its gradient with respect to
them; then each part once more, with its own rows of that gradient (Gao et al. 2021, "GradCache").
The result is that of the uncut batch, up to rounding, for a second forward pass.
"""

import torch
from torch import Tensor, nn

from micl_bench.engine.pretraining.parallel import encoder_of, exchanging
from micl_bench.objectives.micl import MiCL, Output


def backward(
    model: nn.Module,
    objective: MiCL,
    visible_NMP: Tensor,
    keep_NVK: Tensor,
    *,
    micro_batch: int = 0,
) -> Output:
    """Add the loss's gradient to the parameters' `grad`; returns this process's loss and
    the features that were contrasted.

    Over processes, gradients are averaged, as the loss is.

    Args:
        micro_batch: images of one forward pass; 0 for all at once.
    """
    num_images = len(keep_NVK)
    size = min(micro_batch or num_images, num_images)
    if size == num_images:
        output = objective.contrast(model(visible_NMP, keep_NVK))
        output.loss.backward()
        return _detached(output)
    parts = list(zip(visible_NMP.split(size), keep_NVK.split(size), strict=True))
    # Not through DDP, which would prepare for a backward pass.
    encoder = encoder_of(model)
    with torch.no_grad():
        features_NVD = torch.cat([encoder(*part) for part in parts])
    features_NVD.requires_grad_()
    output = objective.contrast(features_NVD)
    (gradient_NVD,) = torch.autograd.grad(output.loss, features_NVD)
    for number, (part, gradient) in enumerate(
        zip(parts, gradient_NVD.split(size), strict=True), start=1
    ):
        with exchanging(model, number == len(parts)):
            model(*part).backward(gradient)
    return _detached(output)


def _detached(output: Output) -> Output:
    return Output(output.loss.detach(), output.features_NVD.detach())
