"""Segmentation and detection, cut anywhere, end as if they had not been: real processes and signals."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_runs import STEPS, Server, words, write_config
from support import losses, record_in, values_in

from micl_bench.runtime.safe_reading.read import read_safely

TASKS = ("ade20k", "coco")


@pytest.fixture(scope="module")
def whole(
    server: Server, embedded: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """Config and folder of an uninterrupted run of each task."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        config, out = write_config(folder / "config.py", task), folder / "out"
        server.run(words(task, config, embedded, out))
        assert len(losses(out)) == STEPS
        found[task] = config, out
    return found


def assert_equal_runs(out: Path, whole: Path) -> None:
    assert losses(out) == losses(whole)
    ours, theirs = record_in(out, "*"), record_in(whole, "*")
    for key in ("metrics", "settings", "fingerprint"):
        assert ours[key] == theirs[key]
    arrays, expected = (np.load(folder / "evidence.npz") for folder in (out, whole))
    for name in expected.files:
        np.testing.assert_array_equal(arrays[name], expected[name])
    weights, others = (read_safely(folder / "model.pt")["state_dict"] for folder in (out, whole))
    assert all(torch.equal(weights[name], value) for name, value in others.items())


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_killed_and_stopped_with_other_numbers_of_workers(
    server: Server, embedded: Path, tmp_path: Path, whole: dict[str, tuple[Path, Path]], task: str
) -> None:
    config, expected = whole[task]
    out = tmp_path / "out"
    plain = words(task, config, embedded, out)
    helped = words(task, config, embedded, out, "train_dataloader.num_workers=2")
    killed = server.start(helped)
    killed.signal_at(out, 4, signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    assert len(losses(out)) < STEPS
    stopped = server.start(plain)
    stopped.signal_at(out, 7, signal.SIGTERM if task == "coco" else signal.SIGUSR1)
    assert stopped.code == 0, stopped.errors
    last = stopped.errors.splitlines()[-1]
    step = len(losses(out))
    assert 7 <= step < STEPS
    assert f"after saving step {step} of {STEPS}; the same command goes on from there" in last
    said = server.run(helped)
    assert f"going on from step {step} of {STEPS}" in said
    assert "passed the checks before; they are not checked again" in said
    assert_equal_runs(out, expected)
    assert not (out / "states").exists()


@pytest.mark.long
def test_killed_in_its_evaluation_it_evaluates(
    server: Server, embedded: Path, tmp_path: Path, whole: dict[str, tuple[Path, Path]]
) -> None:
    config, expected = whole["ade20k"]
    out = tmp_path / "out"
    command = words("ade20k", config, embedded, out)
    run = server.start(command)
    run.signal_at(out, STEPS, signal.SIGKILL)
    if not list(out.glob("ade20k-*.json")):
        assert losses(out) == losses(expected)
        state = max((out / "states").glob("step-*.pt"))
        step = int(state.stem.split("-")[1])
        assert f"going on from step {step} of {STEPS}" in server.run(command)
    assert_equal_runs(out, expected)


@pytest.mark.long
def test_a_folder_of_another_run_is_refused_and_untouched(
    server: Server, embedded: Path, tmp_path: Path, whole: dict[str, tuple[Path, Path]]
) -> None:
    config, _ = whole["ade20k"]
    out = tmp_path / "out"
    started = server.start(words("ade20k", config, embedded, out))
    started.signal_at(out, 5, signal.SIGTERM)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for other in (
        "model.backbone.drop_path=0.1",
        "auto_scale_lr.base_batch_size=2",
        "randomness.seed=1",
    ):
        refused = server.run(words("ade20k", config, embedded, out, other), code=2)
        remark, error = refused.splitlines()
        assert remark.startswith("config.py: val_dataloader.batch_size=2 reads that many images")
        assert "holds a run of another recipe or other data" in error
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_is_kept_is_read_weights_only(whole: dict[str, tuple[Path, Path]]) -> None:
    for _, out in whole.values():
        content = torch.load(out / "model.pt", weights_only=True)
        assert any(name.startswith("backbone.vit.") for name in content["state_dict"])
        assert record_in(out, "*")["artifacts"]["model"] == "model.pt"
        assert not list(out.rglob("*.pth"))


@pytest.mark.long
def test_the_model_that_is_kept_is_the_average_that_was_evaluated(
    server: Server, embedded: Path, tmp_path: Path, whole: dict[str, tuple[Path, Path]]
) -> None:
    # Averaging does not touch training, so without it losses are the same and the weights trained.
    config = write_config(tmp_path / "config.py", "ade20k", "custom_hooks = []\n")
    server.run(words("ade20k", config, embedded, tmp_path / "out"))
    _, averaged = whole["ade20k"]
    assert losses(tmp_path / "out") == losses(averaged)
    trained, kept = (
        read_safely(out / "model.pt")["state_dict"] for out in (tmp_path / "out", averaged)
    )
    weight = "decode_head.conv_seg.weight"
    assert trained.keys() == kept.keys()
    assert not torch.equal(trained[weight], kept[weight])
    assert values_in(record_in(tmp_path / "out", "*")) != values_in(record_in(averaged, "*"))


@pytest.mark.long
def test_where_iterations_are_passes_a_step_may_not_be_shared_anew(
    server: Server, embedded: Path, tmp_path: Path
) -> None:
    more = 'del auto_scale_lr\ntrain_dataloader["batch_size"] = 4\n'
    config, out = write_config(tmp_path / "config.py", "ade20k", more), tmp_path / "out"
    server.start(words("ade20k", config, embedded, out)).signal_at(out, 4, signal.SIGTERM)
    halves = ("optim_wrapper.accumulative_counts=2", "train_dataloader.batch_size=2")
    refused = server.run(words("ade20k", config, embedded, out, *halves), code=2)
    assert "holds a run of another recipe" in refused


@pytest.mark.long
def test_by_epochs_it_goes_on_too(server: Server, embedded: Path, tmp_path: Path) -> None:
    # 22 images in batches of 4: six iterations an epoch, rates by epoch, saved in the middle of one.
    epochs = """
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=2)
train_dataloader["sampler"] = dict(type="DefaultSampler", shuffle=True)
param_scheduler = [dict(type="MultiStepLR", milestones=[1, 2], gamma=0.5, by_epoch=True)]
default_hooks["checkpoint"] = dict(type="CheckpointHook", by_epoch=True, interval=1)
"""
    config = write_config(tmp_path / "config.py", "ade20k", epochs)
    whole, out = tmp_path / "whole", tmp_path / "out"
    server.run(words("ade20k", config, embedded, whole))
    assert len(losses(whole)) == 18
    command = words("ade20k", config, embedded, out)
    server.start(command).signal_at(out, 8, signal.SIGTERM)
    server.start(command).signal_at(out, 13, signal.SIGKILL)
    server.run(command)
    assert_equal_runs(out, whole)
    rates = [json.loads(line)["lr"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [rates[step] / rates[0] for step in (5, 6, 12)] == [1.0, 0.5, 0.25]
