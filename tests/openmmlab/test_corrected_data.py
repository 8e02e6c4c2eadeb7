"""Held-out data that are corrected meanwhile take a saved training on, and the record says which."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from dense_runs import RANDOM, Server, words, write_config
from support import losses, record_in

from micl_bench import evaluate
from micl_bench.runtime.errors import InputError

TASKS = {
    "ade20k": ("images/validation", "embedded-ade20k"),
    "coco": ("val2017", "embedded-coco"),
}


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_a_corrected_validation_set_goes_on_from_the_saved_state(
    server: Server, embedded: Path, tmp_path: Path, task: str
) -> None:
    split, name = TASKS[task]
    data, out = tmp_path / name, tmp_path / "out"
    shutil.copytree(embedded / name, data)
    config = write_config(tmp_path / "config.py", task)
    command = words(task, config, tmp_path, out)
    image = sorted((data / split).iterdir())[1]
    content = image.read_bytes()

    image.write_bytes(content[:-500])
    refused = server.run(command, code=2)
    assert f"{image.name} (OSError: image file is truncated" in refused
    assert not out.exists()

    image.write_bytes(content)
    stopped = server.start(command)
    stopped.signal_at(out, 5, signal.SIGTERM)
    step = len(losses(out))
    image.write_bytes(content[:-500])
    assert image.name in server.run(command, code=2).splitlines()[-1]
    assert len(losses(out)) == step

    # Another file that shows the same.
    image.write_bytes(content + b"corrected")
    assert f"going on from step {step} of " in server.run(command)
    record = record_in(out, task)
    assert record["train"]["digest"] != record["data"]["digest"]
    claim = json.loads((out / "recipe.json").read_text())
    assert record["data"]["digest"] not in claim.values()
    assert claim["train_digest"] == record["train"]["digest"]


@pytest.mark.long
def test_other_training_data_are_another_run(
    server: Server, embedded: Path, tmp_path: Path
) -> None:
    task, name = "ade20k", TASKS["ade20k"][1]
    shutil.copytree(embedded / name, tmp_path / name)
    config, out = write_config(tmp_path / "config.py", task), tmp_path / "out"
    command = words(task, config, tmp_path, out)
    stopped = server.start(command)
    stopped.signal_at(out, 5, signal.SIGTERM)
    folder = tmp_path / name / "images/training"
    with sorted(folder.iterdir())[0].open("ab") as file:
        file.write(b"more")
    refused = server.run(command, code=2)
    assert "holds a run of another recipe or other data" in refused


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_of_another_layout_is_named_with_what_it_lacks(
    embedded: Path, tmp_path: Path, task: str
) -> None:
    config = write_config(tmp_path / "config.py", task)
    for folder, words_of_it in (
        (embedded, f"{embedded / TASKS[task][1]} has it: give that as --data"),
        (embedded / "embedded", "it holds train, val"),
        (tmp_path / "nowhere", "no data folder at"),
    ):
        with pytest.raises(InputError) as refused:
            evaluate(task, RANDOM, data=folder, recipe=config)
        assert words_of_it in str(refused.value)
        assert "\n" not in str(refused.value)
