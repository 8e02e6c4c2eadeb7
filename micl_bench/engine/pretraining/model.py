"""The model in pre-training: a backbone and its objective's modules, from pixels to rows of the loss; on
one device, replicated (DDP) or sharded (FSDP2)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from micl_bench.backbone import view_features
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.data.visible import Seen
from micl_bench.objectives import Objective
from micl_bench.runs.parallel import WHOLE, replicate
from micl_bench.runtime.errors import InputError

# Up to this many tokens per view, in bfloat16 on a CPU, batched products beat torch's attention
# kernel: it is made for long sequences, and took 30 % of a step of 10-token views in a profile on a
# processor with bfloat16 instructions. In fp32 it is the faster one at these lengths too.
_SHORT_VIEW = 64


class ViewEncoder(nn.Module):
    """A plain ViT, under `vit`, that sees parts of images; `mean` and `std` are those of its pixels."""

    def __init__(
        self,
        vit: VisionTransformer,
        *,
        precision: str = "fp32",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.vit, self.precision = vit, precision
        self.mean_P: Tensor
        self.std_P: Tensor
        per_channel = vit.patch_embed.proj.weight[0, 0].numel()
        for name, values in (("mean_P", mean), ("std_P", std)):
            value_P = torch.tensor(values).mul(255).repeat_interleave(per_channel)
            self.register_buffer(name, value_P, persistent=False)

    def forward(self, seen: Seen) -> Tensor:
        """[CLS] of each view in fp32, features_NVD, of pixels 0 .. 255, uint8 or floating."""
        return self.encoded(_features_of(self.vit), seen)

    def encoded(self, encode: Callable[[Seen], Tensor], seen: Seen) -> Tensor:
        """`encode` of the same with normalised pixels, in the model's precision."""
        device = seen.visible_NMP.device.type
        self._choose_attention(device, seen.keep_NVK.shape[2] + 1)
        normalised = self._normalised(seen)
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return encode(normalised)

    def _normalised(self, seen: Seen) -> Seen:
        # One new tensor, not three: fresh memory costs more than the arithmetic.
        pixels_NMP = torch.sub(seen.visible_NMP, self.mean_P).div_(self.std_P)
        local = None if seen.local is None else self._normalised(seen.local)
        return dataclasses.replace(seen, visible_NMP=pixels_NMP, local=local)

    def _choose_attention(self, device: str, tokens: int) -> None:
        products = device == "cpu" and self.precision == "bf16" and tokens <= _SHORT_VIEW
        for block in self.vit.blocks:
            attention: Any = block.attn
            attention.fused_attn = not products


class PretrainingModel(ViewEncoder):
    """The ViT, and the modules that the objective adds to it, drawn by the seed, under `added`.

    One module, so that DDP and FSDP see one forward pass, and one state holds all that is trained.
    """

    def __init__(
        self,
        objective: Objective,
        vit: VisionTransformer,
        *,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        super().__init__(vit, precision=precision)
        self.objective = objective
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which also reaches for every GPU.
            torch.default_generator.manual_seed(seed)
            self.added = objective.added(vit)
        if objective.backbone not in dict(self.named_modules()):
            raise InputError(
                f"{objective.name}: its `backbone` is {objective.backbone!r}, which is no module of "
                "the run; needed: `vit`, or one below `added`"
            )

    def forward(self, seen: Seen, *, features: bool = False) -> Tensor:
        """The objective's rows, one per image, of pixels 0 .. 255, uint8 or floating; with `features`
        those of the backbone that the run leaves, as `ViewEncoder`."""
        if features:
            kept = self.get_submodule(self.objective.backbone)
            return self.encoded(_features_of(cast(VisionTransformer, kept)), seen)
        encode = functools.partial(self.objective.encode, self.vit, self.added)
        return self.encoded(encode, seen)


def _features_of(vit: VisionTransformer) -> Callable[[Seen], Tensor]:
    return lambda seen: view_features(vit, seen.visible_NMP, seen.keep_NVK)


def distribute(
    model: PretrainingModel, *, parallel: str, compile_blocks: bool, checkpoint_activations: bool
) -> nn.Module:
    """Wrap the model (`ddp`, `fsdp`) where processes train together; returns a module that is called as
    the model is. A process that was not started as one of several gets the model itself."""
    model.vit.set_grad_checkpointing(checkpoint_activations)
    # Those of a decoder, too, and of a momentum twin.
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if compile_blocks:
        # Block by block: those of a kind share one compiled program; the wrappers below stay outside.
        for block in blocks:
            block.compile()
    if not torch.distributed.is_initialized():
        return model
    if parallel == "fsdp":
        for block in blocks:
            fully_shard(block)
        fully_shard(model)
        return model
    return replicate(model, model.mean_P.device)


def model_of(model: nn.Module) -> PretrainingModel:
    """The model that `distribute` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model  # type: ignore[return-value]


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The weights, as whole tensors by timm's names, of the ViT that the run leaves; every process must
    call it."""
    weights, start = (
        get_model_state_dict(model, options=WHOLE),
        f"{model_of(model).objective.backbone}.",
    )
    return {
        name.removeprefix(start): tensor
        for name, tensor in weights.items()
        if name.startswith(start)
    }
