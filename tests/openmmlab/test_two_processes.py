"""Two processes train and evaluate one config together, with gloo, as one process does."""

import signal
from pathlib import Path

import numpy as np
import pytest
from dense_runs import STEPS, Server, words, write_config
from support import good, intervals_in, losses, record_in, torchrun, values_in

# Nothing that is drawn by the process, and no norm over a process's own images.
ALIKE = """
model["backbone"]["drop_path"] = 0.0
custom_hooks = []
"""
ALIKE_ADE20K = """
for head in (model["decode_head"], model["auxiliary_head"]):
    head.update(dropout_ratio=0.0, norm_cfg=dict(type="GN", num_groups=4))
    # The mean over pixels that count weighs images by who they come with.
    head["loss_decode"]["avg_non_ignore"] = False
"""
# With a rate of nothing the weights stay those of the first process, whatever is summed how.
STILL = "optim_wrapper.optimizer.lr=0.0"


@pytest.mark.long
def test_the_same_steps_as_one_process(server: Server, embedded: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.py", "ade20k", ALIKE + ALIKE_ADE20K)
    command = words("ade20k", config, embedded, tmp_path / "one", "train_cfg.max_iters=6")
    server.run([*command, "--set", "optim_wrapper.accumulative_counts=2"])
    command[command.index(str(tmp_path / "one"))] = str(tmp_path / "two")
    done = good(torchrun(2, "-m", "micl_bench", *command))
    # The same images with the same draws; sums in another order, in fp32.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    ours, theirs = record_in(tmp_path / "two", "ade20k"), record_in(tmp_path / "one", "ade20k")
    assert ours["fingerprint"] == theirs["fingerprint"]
    assert ours["protocol"] == "UperNet, single scale, 6 steps of 4 images"
    assert (ours["details"]["processes"], theirs["details"]["processes"]) == (2, 1)
    assert ours["device_hours"] == pytest.approx(2 * ours["seconds"] / 3600, rel=1e-2)
    # One process speaks.
    assert done.stdout.count("mIoU") == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("segmentation")]
    assert not (tmp_path / "two" / ".collected").exists()


@pytest.mark.long
@pytest.mark.parametrize("task", ["ade20k", "coco"])
def test_each_image_counts_once(server: Server, embedded: Path, tmp_path: Path, task: str) -> None:
    more = ALIKE + (ALIKE_ADE20K if task == "ade20k" else "")
    if task == "coco":
        # So many boxes that some are right without training.
        more += "model['test_cfg']['rcnn'].update(score_thr=0.0, max_per_img=60)\n"
    config = write_config(tmp_path / "config.py", task, more)
    found = []
    for number in (1, 2):
        out = tmp_path / str(number)
        sets = ("train_cfg.max_iters=1", STILL)
        server.run(words(task, config, embedded, out, *sets), processes=number)
        found.append(out)
    one, two = (record_in(out, task) for out in found)
    assert one["data"]["images"] == two["data"]["images"] == 7
    assert values_in(one) == values_in(two)
    assert intervals_in(one) == intervals_in(two)
    assert max(values_in(one).values()) > 0
    for name in ("evidence.npz", "predictions.npz"):
        first, second = (np.load(out / name) for out in found)
        for array in first.files:
            np.testing.assert_array_equal(first[array], second[array], err_msg=array)


@pytest.mark.long
def test_two_go_on_where_two_were_stopped(server: Server, embedded: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.py", "ade20k")
    for out in ("whole", "cut"):
        command = words("ade20k", config, embedded, tmp_path / out)
        if out == "cut":
            started = server.start_together(2, command)
            # The other one is told by the first.
            started[1].signal_at(tmp_path / out, 7, signal.SIGTERM)
            assert started[0].wait() == started[1].code == 0, started[0].errors
            step = len(losses(tmp_path / out))
            assert 7 <= step < STEPS
            assert started[1].errors.splitlines()[-1].startswith("process 1: stopped by SIGTERM")
        server.run(command, processes=2)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    ours, theirs = record_in(tmp_path / "cut", "ade20k"), record_in(tmp_path / "whole", "ade20k")
    assert values_in(ours) == values_in(theirs)
    # Two images at a time are normalised together, of a step's four.
    assert ours["settings"]["normalised_together"] == 2


@pytest.mark.long
def test_what_cannot_be_shared_ends_every_process_with_a_line(
    server: Server, embedded: Path, tmp_path: Path
) -> None:
    for change, message in (
        ("auto_scale_lr = dict(base_batch_size=5)", "numbers of processes that fit: 1, 5"),
        ("model['decode_head']['norm_cfg'] = dict(type='SyncBN')", "set type='BN' in its norm_cfg"),
        # Found on one process alone, in its first step.
        (
            "import os\nif os.environ['RANK'] == '1':\n"
            "    train_dataloader['dataset']['pipeline'] = train_pipeline[:1] + train_pipeline[-1:]\n"
            "    model['decode_head']['loss_decode']['loss_weight'] = None\n"
            "del os",
            "",
        ),
    ):
        config = write_config(tmp_path / "config.py", "ade20k", change + "\n")
        out = tmp_path / "out"
        said = server.run(words("ade20k", config, embedded, out), processes=2, code=2)
        # The first of them has looked at the data before, and has a remark on the config.
        remarks = ("checking", "config.py: val_dataloader.batch_size=2 reads that many images")
        assert len([line for line in said.splitlines() if not line.startswith(remarks)]) == 2, said
        assert said.count(message) >= 2
        assert not out.exists()
