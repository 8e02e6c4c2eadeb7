"""Odd checkpoints, values, records, folders and annotations: refused in one line, or taken.

Each case is drawn by its own number, so that one that fails can be made again by itself.
"""

import dataclasses
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fuzzing import Ran, ran, require_no_complaint
from mutations import NASTY, mutated_json
from support import REPOSITORY, Command

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.records.result import read_result
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.tasks import running

sys.path += [str(REPOSITORY / "tests" / folder) for folder in ("checkpoints", "data", "report")]
from mutants import mutant
from odd_folders import odd_folder
from synthetic_results import write_demo

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

PRETRAIN = REPOSITORY / "pretrain" / "embedded.py"
VIT = "random:vit_demo_patch4_32"
TASKS = ("knn", "linear", "logistic", "finetune", "robustness", "representation")


@pytest.fixture(autouse=True, scope="module")
def _imports() -> None:
    """The server that cases are forked from imports torch before the first case is timed."""
    Command("--version").wait()


def drawn(number: int, what: str) -> random.Random:
    return random.Random(f"{what} {number}")


def test_a_thousand_checkpoints(tmp_path: Path) -> None:
    whole: dict[str, Path] = {}

    def case(number: int) -> Ran:
        path = mutant(tmp_path, number, whole)
        outcome = ran("inspect", path, cwd=tmp_path)
        remove(path)
        return outcome

    require_no_complaint(((f"checkpoint {n}", partial(case, n)) for n in range(1000)), taken=1 / 50)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def keys_of(recipe: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        yield f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, f"{prefix}{field.name}.")


def all_keys() -> list[tuple[str, str]]:
    """Every key of every recipe, each with its task."""
    found = [("pretrain", key) for key in keys_of(load_recipe(PRETRAIN, PretrainRecipe))]
    for task in TASKS:
        module = running(task)
        found += [(task, key) for key in keys_of(module.RECIPE())]
    return found


def test_five_hundred_values(tmp_path: Path) -> None:
    """The data are not there, so that a value which is taken is not tried for days."""
    keys = all_keys()

    def case(number: int) -> Ran:
        draw = drawn(number, "value")
        task, key = draw.choice(keys)
        value = draw.choice(
            [*map(str, NASTY), "*a", "&a [*a]", "[" * 5000, "{a: b}", "[1,2", "!!x"]
        )
        words = ["--set", _argument(f"{key}={value}"), "--data", "none", "--out", "out"]
        if task == "pretrain":
            return ran("pretrain", PRETRAIN, *words, cwd=tmp_path)
        return ran("eval", task, "--checkpoint", VIT, *words, cwd=tmp_path)

    require_no_complaint((f"value {n}", partial(case, n)) for n in range(500))
    assert not (tmp_path / "out").exists()


def _argument(text: str) -> str:
    """A text as a program finds it among its arguments: bytes without zeros, read as UTF-8."""
    return os.fsdecode(text.replace("\0", "").encode("utf-8", "surrogatepass"))


def signed(path: Path) -> Path:
    """Give a changed record the name of its content, so that a reader looks further than that."""
    for _ in range(2):
        try:
            content = json.loads(path.read_bytes())
            content["fingerprint"] = digest_json(content["settings"])
            path.write_text(json.dumps(content))
            read_result(path)
        except InputError as error:
            if found := re.search(r"its content has id (\S+)", str(error)):
                path = path.rename(path.with_name(f"{found[1]}.json"))
        except (ValueError, KeyError, TypeError, RecursionError):
            break
    return path


def test_three_hundred_records(tmp_path: Path) -> None:
    write_demo(tmp_path / "good")
    good = sorted((tmp_path / "good").rglob("*-*.json"))
    taken = 0

    def case(number: int) -> Ran:
        nonlocal taken
        draw = drawn(number, "record")
        source = draw.choice(good)
        path = tmp_path / "good" / source.parent.name / f"odd-{number}.json"
        path.write_bytes(mutated_json(json.loads(source.read_text()), draw))
        outcome = ran("explain", signed(path), "--results", tmp_path / "good", cwd=tmp_path)
        taken += outcome.code == 0
        return outcome

    require_no_complaint((f"record {n}", partial(case, n)) for n in range(300))
    # Some changes leave a record: of another seed, of another name.
    assert taken > 10
    # A process without a limit of time: drawing takes longer than reading.
    report = Command("report", "--results", "good", "--out", "report", cwd=tmp_path).wait()
    assert report.returncode == 0, report.stderr
    assert "Traceback" not in report.stderr
    assert (tmp_path / "report" / "report.html").is_file()


def test_two_hundred_folders(tmp_path: Path) -> None:
    recipe = REPOSITORY / "downstream" / "embedded_knn.py"

    def case(number: int) -> Ran:
        folder = odd_folder(tmp_path / str(number), number)
        words = ["--recipe", recipe, "--data", folder, "--out", tmp_path / f"out-{number}"]
        outcome = ran("eval", "knn", "--checkpoint", VIT, *words, "--set", "ks=[1]", cwd=tmp_path)
        remove(folder)
        return outcome

    require_no_complaint(((f"folder {n}", partial(case, n)) for n in range(200)), taken=1 / 50)


def test_a_hundred_annotation_files(embedded: Path, tmp_path: Path) -> None:
    source = embedded / "embedded-coco"
    recipe = REPOSITORY / "downstream" / "embedded_mask_rcnn.py"
    good = {path.name: json.loads(path.read_text()) for path in source.glob("annotations/*.json")}
    small = {name: _of_first_images(content, 6) for name, content in good.items()}

    def case(number: int) -> Ran:
        draw = drawn(number, "annotations")
        folder = tmp_path / str(number)
        (folder / "annotations").mkdir(parents=True)
        for split in ("train2017", "val2017"):
            (folder / split).symlink_to(source / split)
        spoilt = draw.choice(sorted(small))
        for name, content in small.items():
            text = mutated_json(content, draw) if name == spoilt else json.dumps(content).encode()
            (folder / "annotations" / name).write_bytes(text)
        words = ["--recipe", recipe, "--data", folder, "--out", folder / "out"]
        words += ["--set", "train_cfg.max_iters=1"]
        return ran("eval", "coco", "--checkpoint", VIT, *words, cwd=tmp_path)

    require_no_complaint((f"annotations {n}", partial(case, n)) for n in range(100))


def _of_first_images(content: dict[str, Any], number: int) -> dict[str, Any]:
    images = content["images"][:number]
    ids = {image["id"] for image in images}
    kept = [row for row in content["annotations"] if row["image_id"] in ids]
    return {**content, "images": images, "annotations": kept}
