"""The memory estimate: exact where arithmetic is, near a real run's, and refused is what cannot fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmseg")
pytest.importorskip("mmdet")

from mmengine.config import Config
from mmengine.registry import MODELS
from mmseg.models import FCNHead
from support import REPOSITORY
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from micl_bench.checkpoints import save_checkpoint
from micl_bench.openmmlab import MiCLViT
from micl_bench.openmmlab.configs import read
from micl_bench.openmmlab.fake_pass import training_pass
from micl_bench.openmmlab.input_size import evaluation_size, training_size
from micl_bench.openmmlab.iteration import build_model
from micl_bench.openmmlab.live_bytes import LiveBytes, fake_copy
from micl_bench.openmmlab.memory import Estimate, check_memory, estimate
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")
MIB = 1 << 20
SEGMENTATION = REPOSITORY / "downstream" / "embedded_upernet.py"
DETECTION = REPOSITORY / "downstream" / "embedded_mask_rcnn.py"


def config(path: Path = SEGMENTATION, side: int = 64, **backbone: Any) -> Config:
    found = read(path, [])
    found.model.backbone.update(backbone)
    if path == SEGMENTATION:
        found.model.data_preprocessor.size = (side, side)
        # Less to trace.
        found.pop("val_dataloader")
        found.optim_wrapper.optimizer = {"type": "SGD", "lr": 0.1}
    return found


def of(found: Config, **options: Any) -> Estimate:
    return estimate(found, device=CPU, **options)


def test_counts_what_lives_exactly() -> None:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    module = fake_copy(layers, fake, CPU)
    with fake, LiveBytes(module) as memory:
        given = torch.empty(100, 8)
        loss = module(given).sum()
        # While the sum is made the output lives too.
        assert memory.peak == 4 * (100 * (8 + 16 + 16 + 4) + 1)
        # Input, hidden before and after GELU, the sum; the output itself is needed by nothing.
        assert memory.now == 4 * (100 * (8 + 16 + 16) + 1)
        loss.backward()
        del loss, given
        assert memory.now == 4 * (8 * 16 + 16 + 16 * 4 + 4)
    assert layers[0].weight.grad is None


def test_shapes_that_depend_on_values_count_as_the_largest() -> None:
    fake = FakeTensorMode()
    with fake, LiveBytes(nn.Identity()):
        values = torch.empty(3, 4)
        assert values[values > 0].shape == (12,)
        assert values[:, values[0] > 0].shape == (3, 4)
        assert (values > 0).nonzero().shape == (12, 2)
        assert float(values.sum()) == 1


@contextmanager
def saved_storages() -> Iterator[dict[int, int]]:
    """Bytes of each piece of memory that autograd saves, by address: torch's own hooks."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


@pytest.mark.parametrize("window_size", [0, 3])
@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_activations_are_those_that_a_real_pass_saves(window_size: int, kernel: SDPBackend) -> None:
    vit = MiCLViT("random:vit_demo_patch4_32", drop_path=0.0, window_size=window_size)
    model = nn.Sequential(vit).train()
    model.backbone = vit
    shape = (3, 48, 32)
    with sdpa_kernel(kernel):
        found = training_pass(
            model, 2, shape[1:], device=CPU, cast=None, accumulates=False, segments=False
        )
        with saved_storages() as sizes:
            maps = vit(torch.randn(2, *shape))
            loss = sum(map_NDhw.square().sum() for map_NDhw in maps)
    own = {parameter.untyped_storage().data_ptr() for parameter in vit.parameters()}
    own |= {buffer.untyped_storage().data_ptr() for buffer in vit.buffers()}
    real = sum(size for address, size in sizes.items() if address not in own)
    assert loss.requires_grad
    # The images are saved by the projection; scalars and what only the names of locals hold differ.
    assert found.kept + found.inputs == pytest.approx(real, rel=0.05)


@pytest.mark.long
def test_it_grows_with_batch_and_size_and_falls_with_recomputation_and_bf16(
    base: Estimate,
) -> None:
    large, many = config(side=192), config(side=128)
    many.train_dataloader.batch_size = 8
    assert of(large).total > base.total
    # Twice the images: twice the activations, and the same weights.
    assert of(many).activations == pytest.approx(2 * base.activations, rel=0.01)
    assert of(many).weights == base.weights
    again = of(config(side=128, activation_checkpointing=True))
    assert again.activations < 0.8 * base.activations
    half = config(side=128)
    half.optim_wrapper.type = "Bf16OptimWrapper"
    assert 0.4 * base.activations < of(half).activations < 0.8 * base.activations


def test_weights_gradients_and_state_are_the_models() -> None:
    asked = read(SEGMENTATION, [])
    asked.model.backbone.frozen_stages = 2
    found, model = of(asked), build_model(asked)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [value for values in optimizer.state.values() for value in values.values()]
    assert found.gradients == sum(4 * parameter.numel() for parameter in trained)
    assert found.optimiser == sum(tensor.nbytes for tensor in state)
    everything = [*model.parameters(), *model.buffers()]
    assert found.weights == sum(tensor.nbytes for tensor in everything) > found.gradients
    # 12 images of 64 x 64, upsampled to 10 classes a pixel, once at least.
    assert found.evaluation > 4 * 12 * 64 * 64 * 10


def test_processes_and_passes_keep_gradients() -> None:
    one, passes = config(), config()
    passes.optim_wrapper.accumulative_counts = 4
    alone = of(one)
    assert of(one, processes=2).total == alone.total + alone.gradients
    # Beside what the first pass already has when it is at its worst.
    assert alone.total < of(passes).total <= alone.total + alone.gradients


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    from micl_bench.backbone import Arch

    arch = Arch(name="narrow", img_size=64, patch_size=16, width=32, depth=8, num_heads=2)
    path = tmp_path_factory.mktemp("narrow") / "narrow.pt"
    save_checkpoint(path, arch.build(), arch, method="MiCL", provenance={})
    return str(path)


def test_windows_at_1024(narrow: str) -> None:
    found = {}
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        for window_size in (0, 14):
            model = nn.Sequential()
            model.backbone = MiCLViT(narrow, strides=(16,), window_size=window_size)
            with sdpa_kernel(kernel):
                found[kernel, window_size] = training_pass(
                    model, 1, (1024, 1024), device=CPU, cast=None, accumulates=False, segments=False
                ).kept
    # A kernel that keeps all pairs of 4096 patches does so for 2 heads in each of 8 blocks, or in the
    # 4 that are global.
    assert found[SDPBackend.MATH, 0] > 8 * 2 * 4096**2 * 4
    assert found[SDPBackend.MATH, 14] < 0.6 * found[SDPBackend.MATH, 0]
    # Flash attention keeps none, so windows save time there and no memory: their copies cost some.
    flash = [found[SDPBackend.FLASH_ATTENTION, size] for size in (0, 14)]
    assert flash[0] <= flash[1] < 1.2 * flash[0]
    assert flash[0] < found[SDPBackend.MATH, 0] / 10


def test_detection_counts_the_boxes_that_may_be_drawn() -> None:
    few, many = config(DETECTION), config(DETECTION)
    many.model.train_cfg.rcnn.sampler.num = 256
    small, large = of(few), of(many)
    assert not small.left_out
    # At least the pooled features of the 240 boxes more, of 4 images, for the boxes' head.
    assert large.activations - small.activations > 4 * 4 * 240 * 32 * 7 * 7
    assert large.weights == small.weights


@pytest.fixture(scope="module")
def base() -> Estimate:
    """Of 4 images of 128 x 128."""
    return of(config(side=128))


def refusal(asked: Config, free: int) -> str:
    with pytest.raises(InputError) as caught:
        check_memory(asked, device=CPU, free=free)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_fit_is_refused_and_told_what_to_lower(base: Estimate) -> None:
    asked = config(side=128)
    # With a total batch only passes could be lowered.
    asked.pop("auto_scale_lr")
    message = refusal(asked, base.total // 2)
    assert "4 images of 128 x 128 in fp32" in message
    for words in (
        "train_dataloader.batch_size=2 with optim_wrapper.accumulative_counts=2",
        "model.backbone.activation_checkpointing=True",
        "optim_wrapper.type=Bf16OptimWrapper",
        "images of 64 x 64",
    ):
        assert words in message
    # UperNet's batch norm does not train on one image, and windows do not help flash attention.
    assert "batch_size=1" not in message
    assert "window_size" not in message
    amounts = [float(part.split()[0]) for part in message.split("(about ")[1:]]
    assert amounts == sorted(amounts)
    assert max(amounts) < base.total / (1 << 30)


def test_a_total_batch_is_lowered_by_passes_alone(base: Estimate) -> None:
    asked = config(side=128, activation_checkpointing=True)
    asked.auto_scale_lr = {"enable": False, "base_batch_size": 4}
    message = refusal(asked, base.total // 4)
    assert "optim_wrapper.accumulative_counts=2 (about" in message
    assert "batch_size=" not in message
    assert "activation_checkpointing" not in message


def test_what_fits_passes_and_leaves_no_trace(base: Estimate) -> None:
    asked, state = config(side=128), torch.get_rng_state()
    before = asked.to_dict()
    assert check_memory(asked, device=CPU) == base
    assert torch.equal(torch.get_rng_state(), state)
    assert asked.to_dict() == before
    # Not certain to fit, nor certain not to.
    assert check_memory(asked, device=CPU, free=int(base.total * 0.9)) == base


@MODELS.register_module()
class HeadThatLooksAtValues(FCNHead):
    """Its loss takes a way that fake tensors cannot."""

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: Any) -> dict[str, Tensor]:
        seg_logits.detach().numpy()
        return super().loss_by_feat(seg_logits, batch_data_samples)


@MODELS.register_module()
class HeadThatLooksEarlier(FCNHead):
    """So does its forward pass."""

    def forward(self, inputs: Any) -> Tensor:
        inputs[0].detach().numpy()
        return super().forward(inputs)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("HeadThatLooksAtValues", "only the heads could be traced"),
        ("HeadThatLooksEarlier", "only the backbone could be traced"),
    ],
)
def test_a_model_that_cannot_be_traced_whole_is_not_blocked(head: str, words: str) -> None:
    asked = config()
    asked.model.auxiliary_head.type = head
    found = check_memory(asked, device=CPU)
    assert found is not None
    assert words in found.left_out
    assert 0 < found.total < of(config()).total


def test_a_config_that_cannot_be_built_is_left_to_who_runs_it() -> None:
    asked = config()
    asked.model.decode_head.type = "NoSuchHead"
    assert check_memory(asked, device=CPU) is None


def with_pipelines(*pipelines: list[dict], batch: int = 2, **model: Any) -> Config:
    parts = [{"pipeline": pipeline} for pipeline in pipelines]
    dataset = parts[0] if len(parts) == 1 else {"type": "ConcatDataset", "datasets": parts}
    loader = {"batch_size": batch, "dataset": dataset}
    preprocessor = model or {"type": "DetDataPreprocessor"}
    return Config(
        {
            "model": {"data_preprocessor": preprocessor},
            "train_dataloader": loader,
            "val_dataloader": loader,
        }
    )


KEPT = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
JITTER = {
    "type": "RandomResize",
    "scale": (1024, 1024),
    "ratio_range": (0.1, 2.0),
    "keep_ratio": True,
}
CROP = {"type": "RandomCrop", "crop_size": (1024, 1024), "crop_type": "absolute"}
CHOICE = {
    "type": "RandomChoice",
    "transforms": [
        [{"type": "RandomChoiceResize", "scales": [(1333, 480), (1333, 640)], "keep_ratio": True}],
        [
            {"type": "RandomChoiceResize", "scales": [400, 500], "keep_ratio": True},
            {"type": "RandomCrop", "crop_type": "absolute_range", "crop_size": (384, 600)},
        ],
    ],
}


@pytest.mark.parametrize(
    ("expected", "asked"),
    [
        # Upright and lying images in one batch.
        ((1333, 1333), with_pipelines([KEPT])),
        ((800, 1333), with_pipelines([KEPT], batch=1)),
        ((800, 1344), with_pipelines([KEPT], batch=1, pad_size_divisor=32)),
        ((600, 400), with_pipelines([{"type": "mmcv.Resize", "scale": (400, 600)}])),
        ((1024, 1024), with_pipelines([JITTER, CROP])),
        ((640, 1280), with_pipelines([CHOICE], batch=1)),
        ((512, 1024), with_pipelines([KEPT | {"scale": (2048, 512)}], batch=1)),
        ((1024, 1024), with_pipelines([KEPT | {"scale": (64, 64)}], [JITTER, CROP])),
        (None, with_pipelines([{"type": "LoadImageFromFile"}])),
    ],
)
def test_sizes_come_from_the_pipeline(expected: tuple[int, int] | None, asked: Config) -> None:
    assert training_size(asked) == expected
    # Images are evaluated one by one, however many are read at a time.
    asked.train_dataloader.batch_size = 1
    assert evaluation_size(asked) == training_size(asked)
    asked.val_cfg = {"type": "OwnLoop"}
    assert evaluation_size(asked) == expected


def test_a_size_that_the_batch_is_padded_to_comes_first() -> None:
    fixed = with_pipelines([KEPT], type="SegDataPreProcessor", size=(512, 512))
    assert training_size(fixed) == (512, 512)
    assert evaluation_size(fixed) == (800, 1333)
    augmented = with_pipelines(
        [JITTER], batch_augments=[{"type": "BatchFixedSizePad", "size": (1024, 1024)}]
    )
    assert training_size(augmented) == (1024, 1024)


def test_batches_of_one_shape_are_not_padded_to_squares() -> None:
    asked = with_pipelines([KEPT])
    asked.train_dataloader.batch_sampler = {"type": "AspectRatioBatchSampler"}
    assert training_size(asked) == (800, 1333)
