"""Mixup and CutMix against a naive twin, soft labels in closed form."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor

from micl_bench.engine.supervised.mixing import MixConfig, Mixing
from micl_bench.runtime.errors import InputError

CLASSES, SMOOTHING = 7, 0.1


def batch(images: int = 32, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Every pixel differs, so that a copied one tells where it came from.
    images_NCHW = torch.randn(images, 3, size, size, generator=generator)
    return images_NCHW, torch.randint(0, CLASSES, (images,), generator=generator)


def mixing(**options: float) -> Mixing:
    return Mixing(MixConfig(**options), num_classes=CLASSES, label_smoothing=SMOOTHING, seed=1)


def smoothed(label: int) -> np.ndarray:
    row = np.full(CLASSES, SMOOTHING / CLASSES)
    row[label] += 1 - SMOOTHING
    return row


def share_of(target_C: Tensor, own: int, other: int) -> float:
    """lambda, from target = lambda * smooth(own) + (1 - lambda) * smooth(other)."""
    return (target_C[own].item() - SMOOTHING / CLASSES) / (1 - SMOOTHING) if own != other else -1.0


def test_groups_are_mixed_as_a_naive_twin_does() -> None:
    kinds, shares = set(), []
    for epoch in range(12):
        before_NCHW, labels_N = batch()
        after_NCHW = before_NCHW.clone()
        targets_NC = mixing(group=8)(after_NCHW, labels_N, epoch=epoch, first=0)
        assert torch.allclose(targets_NC.sum(1), torch.ones(32))
        for start in range(0, 32, 8):
            pairs = [(start + i, start + 7 - i) for i in range(8)]
            own, other = next((i, j) for i, j in pairs if labels_N[i] != labels_N[j])
            share = share_of(targets_NC[own], int(labels_N[own]), int(labels_N[other]))
            shares.append(share)
            changed_HW = (after_NCHW[own] != before_NCHW[own]).all(0)
            is_box = torch.equal(after_NCHW[own][:, ~changed_HW], before_NCHW[own][:, ~changed_HW])
            kinds.add("cutmix" if is_box and not changed_HW.all() else "mixup")
            for i, j in pairs:
                twin_C = share * smoothed(int(labels_N[i])) + (1 - share) * smoothed(
                    int(labels_N[j])
                )
                assert targets_NC[i].numpy() == pytest.approx(twin_C, abs=1e-5)
                if is_box and not changed_HW.all():
                    # A rectangle of the other image, whose area is what the label gives it.
                    rows, columns = changed_HW.any(1), changed_HW.any(0)
                    assert changed_HW.sum() == rows.sum() * columns.sum()
                    assert changed_HW.double().mean().item() == pytest.approx(1 - share, abs=1e-5)
                    expected = torch.where(changed_HW, before_NCHW[j], before_NCHW[i])
                    assert torch.equal(after_NCHW[i], expected)
                else:
                    expected = share * before_NCHW[i] + (1 - share) * before_NCHW[j]
                    assert torch.allclose(after_NCHW[i], expected, atol=1e-5)
    assert kinds == {"mixup", "cutmix"}
    # Each group has a draw of its own.
    assert len({round(share, 6) for share in shares}) > 40


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0)])
def test_shares_have_the_published_distribution(mixup: float, cutmix: float) -> None:
    mix, shares = mixing(mixup=mixup, cutmix=cutmix, group=2), []
    images_NCHW, _ = batch(1000, 2)
    labels_N = torch.arange(1000) % 2
    targets_NC = mix(images_NCHW, labels_N, epoch=0, first=0)
    shares = [share_of(row, 0, 1) for row in targets_NC[::2]]
    if mixup:
        # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
        assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
        assert np.var(shares) == pytest.approx(1 / (4 * (2 * mixup + 1)), abs=0.02)
    else:
        # Boxes on a grid of 2 x 2: nothing but whole quarters.
        assert {round(4 * share, 4) for share in shares} <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_batch_is_mixed_the_same_whoever_holds_its_parts() -> None:
    images_NCHW, labels_N = batch()
    whole_NCHW = images_NCHW.clone()
    targets_NC = mixing(group=8)(whole_NCHW, labels_N, epoch=2, first=64)
    for rank in (0, 1):
        part = slice(16 * rank, 16 * rank + 16)
        own_NCHW = images_NCHW[part].clone()
        own_NC = mixing(group=8)(own_NCHW, labels_N[part], epoch=2, first=64 + 16 * rank)
        assert torch.equal(own_NCHW, whole_NCHW[part])
        assert torch.equal(own_NC, targets_NC[part])


def test_without_mixing_labels_are_only_smoothed() -> None:
    images_NCHW, labels_N = batch()
    untouched = images_NCHW.clone()
    targets_NC = mixing(mixup=0.0, cutmix=0.0)(images_NCHW, labels_N, epoch=0, first=0)
    assert torch.equal(images_NCHW, untouched)
    logits_NC = torch.randn(32, CLASSES, generator=torch.Generator().manual_seed(2))
    loss = F.cross_entropy(logits_NC, targets_NC)
    timms = LabelSmoothingCrossEntropy(SMOOTHING)(logits_NC, labels_N)
    assert loss.item() == pytest.approx(timms.item(), rel=1e-6)


def test_the_loss_of_mixed_labels_is_timms() -> None:
    images_NCHW, labels_N = batch()
    targets_NC = mixing()(images_NCHW, labels_N, epoch=0, first=0)
    logits_NC = torch.randn(32, CLASSES, generator=torch.Generator().manual_seed(2))
    timms = SoftTargetCrossEntropy()(logits_NC, targets_NC)
    assert F.cross_entropy(logits_NC, targets_NC).item() == pytest.approx(timms.item(), rel=1e-6)


def test_groups_must_fit_into_what_a_process_has() -> None:
    config = MixConfig(group=32)
    config.require_groups(batch_size=1024, processes=32)
    # One process's last group may be smaller.
    config.require_groups(batch_size=40, processes=1)
    with pytest.raises(InputError, match=r"20 images per step, no multiple of mix\.group=32"):
        config.require_groups(batch_size=40, processes=2)
    with pytest.raises(InputError, match="make it even"):
        config.require_groups(batch_size=5, processes=1)
    MixConfig(mixup=0.0, cutmix=0.0).require_groups(batch_size=5, processes=5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixup": -1.0}, "mixup is -1.0; needed: 0 or more"),
        ({"probability": 1.5}, "probability is 1.5; needed: from 0 to 1"),
        ({"group": 3}, "group is 3; images are mixed in pairs"),
        ({"group": 0}, "group is 0; needed: 2 or more"),
    ],
)
def test_senseless_values_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MixConfig(**options)
