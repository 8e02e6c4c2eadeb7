"""Logistic regression as a command: published recipes, few labels, any number of processes."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from support import REPOSITORY, Run, good, overrides, record_in, refused, torchrun, values_in

from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches
from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.runtime.config import load_recipe
from micl_bench.tasks.logistic.run import LogisticRecipe

RANDOM = "random:vit_demo_patch4_32"
DOWNSTREAM = REPOSITORY / "downstream"
SMALL = ("pixels.img_size=32", "num_workers=0")


def words(recipe: str, data: Path, out: Path, *sets: str) -> list[str]:
    found = ["eval", "logistic", "--checkpoint", RANDOM, "--data", data, "--out", out]
    found += ["--recipe", DOWNSTREAM / f"{recipe}.py"]
    return [*map(str, found), *overrides(*sets)]


def class_features(folder: Folder) -> np.ndarray:
    """[CLS] after the final norm, in double precision."""
    checkpoint = load_checkpoint(RANDOM)
    (batch,) = evaluation_batches(folder, Pixels(img_size=32), batch_size=len(folder))
    tokens = checkpoint.backbone().forward_features(checkpoint.normalise(batch.images))
    return tokens[:, 0].detach().double().numpy()


def test_dinov2s_recipe_has_the_published_grid() -> None:
    recipe = load_recipe(DOWNSTREAM / "imagenet_logistic_10pct.py", LogisticRecipe)
    assert recipe.c == pytest.approx(10 ** np.linspace(-6, 5, 45))
    assert (recipe.max_iter, recipe.held_out, recipe.centred_rows) == (1000, 0.1, False)
    assert LogisticRecipe().c == recipe.c


def test_msns_regression_of_listed_labels_is_scikit_learns(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    train = open_folder(few_digits / "train")
    listed = [name for index, name in enumerate(train.names) if index % 8 in (1, 4, 6)]
    (tmp_path / "list.txt").write_text("\n".join(listed) + "\n")
    sets = (*SMALL, "labels=list.txt", "fraction=1", "max_iter=5000")
    done = good(micl_bench(*words("imagenet_logistic_1pct", few_digits, tmp_path / "out", *sets)))
    record = record_in(tmp_path / "out", "logistic")
    assert "30 labels of the list list.txt: 3 to 3 images per class" in done.stderr
    assert record["details"]["labels"]["by class"] == dict.fromkeys(train.classes, 3)
    assert record["train"]["images"] == 30
    assert record["train"]["digest"] != train.digest
    assert (record["details"]["grid"], record["details"]["c"]) == ([], 4000.0)

    chosen = [train.names.index(name) for name in listed]
    test = open_folder(few_digits / "val", classes=train.classes)
    rows_ND, rows_MD = (class_features(folder) for folder in (train, test))
    for rows in (rows_ND, rows_MD):
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    twin = LogisticRegression(C=4000, fit_intercept=False, max_iter=5000, tol=1e-10)
    twin.fit(rows_ND[chosen], train.labels_N[chosen])
    predictions = read_predictions(tmp_path / "out" / record["artifacts"]["evidence"])
    assert predictions.predicted["top1"].tolist() == twin.predict(rows_MD).tolist()
    five = np.argsort(-twin.decision_function(rows_MD), axis=1)[:, :5]
    right = (five == test.labels_N[:, None]).any(axis=1)
    assert predictions.correct["top5"].tolist() == right.astype(int).tolist()
    assert values_in(record)["top1"] == pytest.approx(100 * twin.score(rows_MD, test.labels_N))


@pytest.mark.long
def test_c_is_chosen_on_held_out_labels_by_any_number_of_processes(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    sets = (*SMALL, "fraction=1", "c=[1e-6,0.1,10]", "max_iter=60")
    done = good(micl_bench(*words("imagenet_logistic_10pct", few_digits, tmp_path / "one", *sets)))
    record = record_in(tmp_path / "one", "logistic")
    grid = record["details"]["grid"]
    assert [row["c"] for row in grid] == [1e-6, 0.1, 10]
    # A penalty that nothing can pay for leaves every class as likely as its images are many.
    assert grid[0]["top1_held_out"] < max(row["top1_held_out"] for row in grid)
    best = next(r for r in grid if r["c"] == record["details"]["c"])
    assert best["top1_held_out"] == max(row["top1_held_out"] for row in grid)
    assert "0.1 of each class's labels" in record["settings"]["selection"]

    done = torchrun(
        2, "-m", "micl_bench", *words("imagenet_logistic_10pct", few_digits, tmp_path / "two", *sets)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other = record_in(tmp_path / "two", "logistic")
    for part in ("metrics", "settings", "fingerprint", "train"):
        assert other[part] == record[part]
    stored, read = (content["details"].pop("features") for content in (record, other))
    assert other["details"] == record["details"]
    assert [found["read"] for found in read.values()] == [True, True]
    for name, found in read.items():
        assert found == stored[name] | {"read": True}
    files = [
        read_predictions(next((tmp_path / n).glob("predictions-logistic-digits-*.npz")))
        for n in ("one", "two")
    ]
    assert files[0].predicted["top1"].tolist() == files[1].predicted["top1"].tolist()


def test_one_label_a_class_leaves_nothing_to_choose_on(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    sets = (*SMALL, "fraction=0.01")
    done = refused(
        micl_bench(*words("imagenet_logistic_10pct", few_digits, tmp_path / "out", *sets))
    )
    assert "none is left to choose C on; give one value" in done.stderr
