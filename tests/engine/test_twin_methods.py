"""Methods with a momentum twin, without [CLS]: trained by the command line, cut, resumed, evaluated."""

import signal
from pathlib import Path

import pytest
import torch
from support import Command, Run, finish, good, losses, overrides, record_in, refused, signalled

from micl_bench.backbone import named_arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.runs.states import States
from micl_bench.runtime.log import read_metrics

SMALL = (
    "batch_size=16", "epochs=3", "knn_every_epochs=3", "save_every_steps=2", "knn_k=5",
    "optim.warmup_epochs=1",
)  # fmt: skip
STEPS = 15
METHODS = {"extrema": ("ExtreMA", "objective.drop_path=0.2"), "ijepa": ("I-JEPA", "seed=3")}


def words(name: str, data: Path, out: Path, *more: str) -> list[str]:
    command = ["pretrain", f"embedded_{name}", "--data", data, "--out", out]
    return [*map(str, command), *overrides(*SMALL, METHODS[name][1], *more)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=pytest.mark.long) if one == "extrema" else one for one in METHODS
    ],
)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def whole(name: str, few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp(name) / "whole"
    finish(words(name, few_digits, out))
    return out


def test_cut_by_a_signal_it_goes_on_bit_for_bit(
    name: str, whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    signalled(words(name, few_digits, cut), cut, 4, signal.SIGTERM)
    done = len(losses(cut))
    assert 4 <= done < STEPS
    # Workers and micro-batches may change in between; here only the workers, for the same bits.
    assert "going on from step" in finish(words(name, few_digits, cut, "num_workers=1"))
    assert losses(cut) == losses(whole)
    assert len(losses(whole)) == STEPS
    ours, theirs = (States(out / "states").newest() for out in (cut, whole))
    assert ours
    assert theirs
    assert all(torch.equal(ours["model"][key], value) for key, value in theirs["model"].items())


def test_it_leaves_its_teacher_and_says_so(name: str, whole: Path) -> None:
    state = States(whole / "states").newest()
    assert state
    checkpoint = load_checkpoint(whole / "backbone.pt")
    arch = named_arch("vit_demo_patch4_32_nocls")
    assert checkpoint.arch == arch
    assert checkpoint.method == METHODS[name][0]
    assert checkpoint.content.pool == "avg"
    left = checkpoint.content.state
    assert left.keys() == arch.build().state_dict().keys()
    assert "cls_token" not in left
    assert left["pos_embed"].shape == (1, 64, 128)
    for key, value in left.items():
        assert torch.equal(value, state["model"][f"added.teacher.{key}"])
    assert not torch.equal(left["norm.weight"], state["model"]["vit.norm.weight"])
    rows = read_metrics(whole / "metrics.jsonl")
    assert all("target_cosine" in row for row in rows if "loss" in row)
    checks = [row for row in rows if "knn_top1" in row]
    assert [row["step"] for row in checks] == [0, STEPS]
    assert all(row["held_out_loss"] > 0 for row in checks)
    record = record_in(whole, "pretrain")
    assert record["method"] == METHODS[name][0]
    assert record["settings"]["objective"]["method"] == METHODS[name][0]
    assert record["metrics"]["mfu"]["value"] > 0


def test_inspect_and_neighbours_read_it(
    whole: Path, micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    file, out = whole / "backbone.pt", tmp_path / "knn"
    assert "no [CLS]" in good(micl_bench("inspect", file)).stdout
    words = ("eval", "knn", "--checkpoint", file, "--recipe", "embedded_knn", "--data", few_digits)
    small = overrides("k=5", "ks=[5]")
    done = refused(micl_bench(*words, "--out", out, *small))
    assert "has no [CLS]; use --set pool=avg" in done.stderr
    good(micl_bench(*words, "--out", out, *small, *overrides("pool=avg")))
    record = record_in(out, "knn")
    assert record["arch"] == "vit_demo_patch4_32_nocls"
    # The check after the last step has read the same features.
    checked = [row for row in read_metrics(whole / "metrics.jsonl") if "knn_top1" in row][-1]
    assert record["metrics"]["top1"]["value"] == pytest.approx(checked["knn_top1"], abs=2.6)


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "sets"),
    [
        ("linear", ("probe.epochs=2", "probe.warmup_epochs=1", "probe.readouts=[avg_1]")),
        ("finetune", ("training.epochs=1", "training.batch_size=40", "pool=avg")),
    ],
)
def test_training_on_top_reads_it(
    whole: Path,
    micl_bench: Run,
    few_digits: Path,
    tmp_path: Path,
    task: str,
    sets: tuple[str, ...],
) -> None:
    words = ("--recipe", f"embedded_{task}", "--data", few_digits, "--out", tmp_path)
    file = whole / "backbone.pt"
    good(micl_bench("eval", task, "--checkpoint", file, *words, *overrides(*sets)))
    assert record_in(tmp_path, task)["arch"] == "vit_demo_patch4_32_nocls"


def test_with_another_backbone_than_its_own_it_is_refused(
    name: str, few_digits: Path, tmp_path: Path
) -> None:
    done = refused(
        Command(*words(name, few_digits, tmp_path / "out", "arch=vit_demo_patch4_32")).wait()
    )
    assert "set arch=vit_demo_patch4_32_nocls" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
