"""Linear probes against direct computations, torch's own optimiser, and each head alone."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.checkpoints import load_checkpoint
from micl_bench.engine.frozen.probe.heads import Probe, choose_head
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.runtime.errors import InputError
from micl_bench.tasks.linear.run import classifier

Batch = tuple[dict[str, Tensor], Tensor]
WIDTHS = {"cls_1": 6, "avg_1": 6}


def batches(number: int = 12, *, scale: float = 1.0) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(number):
        labels_N = torch.randint(0, 3, (20,), generator=generator)
        rows = {name: torch.randn(20, w, generator=generator) for name, w in WIDTHS.items()}
        found.append(({name: value * scale for name, value in rows.items()}, labels_N))
    return found


def trained(config: ProbeConfig, *, scale: float = 1.0) -> Probe:
    """On as many batches as the configuration's steps, of 40 images."""
    plan = config.plan(40)
    probe = Probe(config, plan, widths=WIDTHS, num_classes=3, seed=5)
    for step, (features, labels_N) in enumerate(batches(plan.total_steps, scale=scale)):
        probe.step(features, labels_N, step=step)
    return probe


def test_lars_is_a_direct_computation() -> None:
    """You et al. 2017, algorithm 1, without weight decay, as MAE uses it: no trust ratio on biases."""
    config = ProbeConfig(
        batch_norm=False, base_lrs=(3.0,), steps=12, warmup_epochs=2, batch_size=20
    )
    (head,) = trained(config).grid
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(5)).double() * 0.01
    bias, weight_speed, bias_speed = torch.zeros(3).double(), 0.0, 0.0
    for step, (features, labels_N) in enumerate(batches()):
        x_ND, rate = features["cls_1"].double(), 3.0 * 20 / 256
        # 40 images, 2 steps an epoch, 2 epochs of warm-up.
        if step < 4:
            rate *= (step + 1) / 4
        else:
            rate *= (1 + math.cos(math.pi * (step - 4) / 8)) / 2
        error_NC = ((x_ND @ weight.T + bias).softmax(1) - F.one_hot(labels_N, 3)) / len(labels_N)
        slope_CD = error_NC.T @ x_ND
        trust = 0.001 * weight.square().sum().sqrt() / slope_CD.square().sum().sqrt()
        weight_speed = 0.9 * weight_speed + trust * slope_CD
        bias_speed = 0.9 * bias_speed + error_NC.sum(0)
        weight, bias = weight - rate * weight_speed, bias - rate * bias_speed
    torch.testing.assert_close(head.linear.weight.double(), weight, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(head.linear.bias.double(), bias, rtol=1e-5, atol=1e-7)


def test_sgd_is_torchs_with_its_cosine() -> None:
    """DINOv2's: torch.optim.SGD and CosineAnnealingLR over all steps, one for each head."""
    config = ProbeConfig(
        batch_norm=False, optimizer="sgd", base_lrs=(0.5,), steps=12, warmup_epochs=0, batch_size=20
    )
    (head,) = trained(config).grid
    twin = torch.nn.Linear(6, 3)
    with torch.no_grad():
        twin.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(5))
        twin.bias.zero_()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5 * 20 / 256, momentum=0.9, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0)
    for features, labels_N in batches():
        optimizer.zero_grad()
        F.cross_entropy(twin(features["cls_1"]), labels_N).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(head.linear.weight, twin.weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("optimizer", "batch_norm"), [("sgd", False), ("lars", True)])
def test_heads_trained_together_equal_each_trained_alone(optimizer: str, batch_norm: bool) -> None:
    config = ProbeConfig(
        readouts=("cls_1", "avg_1", "cls_1+avg_1"), base_lrs=(0.1, 3.0), optimizer=optimizer,
        batch_norm=batch_norm, steps=10, warmup_epochs=1, batch_size=20,
    )  # fmt: skip
    together = trained(config).grid
    assert [(h.readout, h.base_lr) for h in together][:3] == [
        ("cls_1", 0.1), ("cls_1", 3.0), ("avg_1", 0.1)
    ]  # fmt: skip
    for head in together:
        one = dataclasses.replace(config, readouts=(head.readout,), base_lrs=(head.base_lr,))
        (alone,) = trained(one).grid
        for name, value in alone.state_dict().items():
            assert torch.equal(head.state_dict()[name], value)


def test_maes_probe_separates_what_can_be_separated() -> None:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(600) % 4
    # Far from 0 and of very different scales, which the batch norm takes out.
    scale_D = 10.0 ** torch.arange(-3, 5)
    centres_CD = torch.randn(4, 8, generator=generator) * 4
    rows_ND = (centres_CD[labels_N] + torch.randn(600, 8, generator=generator)) * scale_D + 50
    features = {"cls_1": rows_ND}
    plan = ProbeConfig(base_lrs=(0.1 * 16384 / 600,), steps=300).plan(600)
    assert plan.batch_size == 600
    assert plan.scaled(0.1) == 0.1 * 600 / 256
    probe = Probe(
        ProbeConfig(base_lrs=(0.1 * 16384 / 600,), steps=300), plan,
        widths={"cls_1": 8}, num_classes=4, seed=0,
    )  # fmt: skip
    for step in range(300):
        probe.step(features, labels_N, step=step)
    assert choose_head(probe, (features, labels_N)).row["top1"] > 99


def test_the_folded_classifier_gives_the_probes_logits() -> None:
    checkpoint = load_checkpoint("random:vit_demo_patch4_32")
    config = ProbeConfig(base_lrs=(20.0,), steps=30, warmup_epochs=0, batch_size=64)
    probe = Probe(config, config.plan(64), widths={"cls_1": 128}, num_classes=7, seed=0)
    images_NCHW = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        features = {"cls_1": checkpoint.backbone().forward_features(images_NCHW)[:, 0]}
    for step in range(30):
        probe.step(features, torch.arange(64) % 7, step=step)
    (head,) = probe.grid
    assert head.norm is not None
    assert not torch.allclose(head.norm.running_var, torch.ones(128), atol=0.1)
    with torch.no_grad():
        found_NC = classifier(checkpoint, head, img_size=32)(images_NCHW)
    torch.testing.assert_close(found_NC, probe.logits(head, features), rtol=1e-4, atol=1e-5)


def test_a_head_that_diverged_is_never_chosen_and_all_of_them_give_no_number() -> None:
    config = ProbeConfig(
        base_lrs=(1e37, 1e-6), optimizer="sgd", batch_norm=False, steps=10, batch_size=20
    )
    probe = trained(config, scale=1e3)
    choice = choose_head(probe, batches(1)[0])
    assert [row["top1"] is None for row in choice.rows] == [True, False]
    assert choice.row is choice.rows[1]
    assert choice.row["learning_rate"] == pytest.approx(1e-6 * 20 / 256)
    with pytest.raises(InputError, match="not finite"):
        choose_head(
            trained(dataclasses.replace(config, base_lrs=(1e37,)), scale=1e3), batches(1)[0]
        )


def test_the_best_is_chosen_on_held_out_images_where_there_are_some() -> None:
    # The first readout knows the evaluated images' labels, the second those of the held-out ones.
    config = ProbeConfig(
        readouts=("cls_1", "avg_1"),
        base_lrs=(1.0,),
        batch_norm=False,
        optimizer="sgd",
        batch_size=20,
    )
    probe = Probe(config, config.plan(40), widths={"cls_1": 3, "avg_1": 3}, num_classes=3, seed=0)
    for head in probe.grid:
        with torch.no_grad():
            head.linear.weight.copy_(torch.eye(3))
    labels_N = torch.arange(30) % 3
    right, wrong = F.one_hot(labels_N, 3).float(), F.one_hot((labels_N + 1) % 3, 3).float()
    evaluated = {"cls_1": right, "avg_1": wrong}, labels_N
    held_out = {"cls_1": wrong, "avg_1": right}, labels_N
    assert choose_head(probe, evaluated).row == {
        "readout": "cls_1", "base_lr": 1.0, "learning_rate": 20 / 256, "top1": 100.0
    }  # fmt: skip
    chosen = choose_head(probe, evaluated, held_out).row
    assert (chosen["readout"], chosen["top1"], chosen["top1_held_out"]) == ("avg_1", 0.0, 100.0)


def test_a_readout_that_the_network_lacks_is_refused_with_those_it_has() -> None:
    config = ProbeConfig(readouts=("cls_1", "avg_4+avg_1"))
    with pytest.raises(InputError, match=r"name cls_1, avg_4; this network gives avg_1, avg_2"):
        Probe(
            config, config.plan(9), widths={"avg_1": 4, "avg_2": 4}, num_classes=2, seed=0
        )  # fmt: skip
