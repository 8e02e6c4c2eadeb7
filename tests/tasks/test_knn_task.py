"""k-NN as a task: its record, several processes, packed stores, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from support import REPOSITORY, Run, good, intervals_in, record_in, refused, torchrun, values_in

from micl_bench.backbone import Arch
from micl_bench.checkpoints import save_checkpoint
from micl_bench.data.packed.pack import pack_tree
from micl_bench.data.packed.store import Form
from micl_bench.records.evidence.predictions import Predictions, read_predictions
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import Request
from micl_bench.tasks.knn.run import KnnRecipe, run

RANDOM = "random:vit_demo_patch4_32"
RECIPE = REPOSITORY / "downstream" / "embedded_knn.py"


def record(out: Path) -> tuple[dict[str, Any], Predictions]:
    content = record_in(out, "knn")
    return content, read_predictions(out / content["artifacts"]["evidence"])


def request(data: Path, out: Path, recipe: Path, *overrides: str) -> Request:
    return Request(checkpoint=RANDOM, data=data, out=out, recipe=recipe, overrides=overrides)


def assert_same(found: Predictions, expected: Predictions) -> None:
    assert (found.files, found.classes) == (expected.files, expected.classes)
    assert found.predicted.keys() == expected.predicted.keys()
    for name in expected.predicted:
        assert (found.predicted[name] == expected.predicted[name]).all()
        assert (found.correct[name] == expected.correct[name]).all()


@pytest.mark.long
def test_the_record_holds_every_k_and_each_prediction(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", RANDOM, "--data", few_digits, "--recipe", RECIPE)
    done = good(micl_bench("eval", "knn", *words, "--out", "one", "--set", "k=7"))
    assert "k = 100, 200 left out: there are 80 training images" in done.stderr
    content, predictions = record(tmp_path / "one")
    assert list(values_in(content)) == ["top1", "top5", "top1_k10", "top1_k20"]
    assert values_in(content).keys() == intervals_in(content).keys()
    for name, value in values_in(content).items():
        assert value == predictions.accuracy(name)
        low, high = intervals_in(content)[name]
        assert low < value < high
    settings = content["settings"]
    assert (settings["pool"], settings["k"], settings["temperature"]) == ("[CLS]", 7, 0.07)
    assert (settings["precision"], settings["norm"]) == ("fp32", "the backbone's final norm")
    assert not {"memory_mib", "batch_size", "num_workers", "seed"} & settings.keys()
    train = content["train"]
    assert (train["split"], train["images"]) == ("train", 80)
    assert train["digest"] != content["data"]["digest"]
    assert len(predictions.files) == content["data"]["images"] == 40
    _agrees_with_scikit_learn(few_digits, predictions, micl_bench, tmp_path)
    # The same again: over two processes, from packed stores, with another budget and batch.
    again = ("--data", few_digits, "--out", tmp_path / "two", "--recipe", RECIPE, "--set", "k=7")
    done = good(torchrun(2, "-m", "micl_bench", "eval", "knn", "--checkpoint", RANDOM, *again))
    assert done.stdout.count("top1_k20") == 1
    pack_tree(few_digits, tmp_path / "stores", Form(layout="patch", size=32, patch_size=4))
    changed = ("--set", "k=7", "--set", "memory_mib=300", "--set", "batch_size=11")
    words = ("--checkpoint", RANDOM, "--data", tmp_path / "stores", "--recipe", RECIPE)
    done = good(micl_bench("eval", "knn", *words, *changed, "--out", "three"))
    for out in ("two", "three"):
        other, other_predictions = record(tmp_path / out)
        assert_same(other_predictions, predictions)
        for part in ("metrics", "fingerprint", "data"):
            assert other[part] == content[part], (out, part)


def _agrees_with_scikit_learn(
    data: Path, predictions: Predictions, micl_bench: Run, tmp_path: Path
) -> None:
    """The other command's features, another library's neighbours."""
    arrays = {}
    for split in ("train", "val"):
        words = ("--checkpoint", RANDOM, "--images", data / split, "--crop-pct", 1)
        good(micl_bench("features", *words, "--out", f"{split}.npz"))
        arrays[split] = np.load(tmp_path / f"{split}.npz", allow_pickle=False)
    assert arrays["val"]["files"].tolist() == list(predictions.files)
    assert arrays["val"]["labels"].tolist() == predictions.labels_M.tolist()
    for metric, k in (("top1", 7), ("top1_k10", 10), ("top1_k20", 20)):
        reference = KNeighborsClassifier(
            n_neighbors=k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(arrays["train"]["features"], arrays["train"]["labels"])
        found = reference.predict(arrays["val"]["features"])
        assert found.tolist() == predictions.predicted[metric].tolist()


def test_a_network_without_class_token_is_told_what_to_use(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    sizes = {"img_size": 32, "patch_size": 8, "width": 64, "depth": 2, "num_heads": 1}
    arch = Arch(name="bare", class_token=False, **sizes)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "bare.pt", arch.build(), arch, method="bare", provenance={})
    words = ("--checkpoint", "bare.pt", "--data", few_digits, "--recipe", RECIPE, "--set", "k=5")
    done = refused(micl_bench("eval", "knn", *words, "--out", "one"))
    assert done.stderr.strip() == "error: bare has no [CLS]; use --set pool=avg"
    done = good(micl_bench("eval", "knn", *words, "--set", "pool=avg", "--out", "one"))
    assert record(tmp_path / "one")[0]["settings"]["pool"] == "mean patch"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("k=81", "k is 81; it must be from 1 to the 80 training images"),
        ("k=0", "k is 0"),
        ("ks=[5,5]", "ks is (5, 5); needed: each value once"),
        ("temperature=0", "temperature is 0.0; needed: 1e-12 or more"),
        ("pool=max", "pool is 'max'; needed: cls or avg"),
        ("precision=fp8", "precision is 'fp8'; needed: fp32 or bf16"),
        ("batch_size=0", "batch_size is 0"),
        ("memory_mib=0", "memory_mib is 0; needed: 1 or more"),
    ],
)
def test_settings_that_make_no_sense(
    few_digits: Path, tmp_path: Path, assignment: str, words: str
) -> None:
    with pytest.raises(InputError) as refused:
        run(request(few_digits, tmp_path, RECIPE, "k=5", assignment))
    assert words in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_the_imagenet_recipe_has_the_published_values_and_runs(
    few_digits: Path, tmp_path: Path
) -> None:
    path = REPOSITORY / "downstream" / "imagenet_knn.py"
    recipe = load_recipe(path, KnnRecipe)
    assert (recipe.k, recipe.ks, recipe.temperature) == (20, (10, 20, 100, 200), 0.07)
    assert (recipe.pool, recipe.precision) == ("cls", "fp32")
    assert (recipe.pixels.img_size, recipe.pixels.crop_pct) == (224, 0.875)
    # The same protocol as the task's own values, whose size is that of the checkpoint.
    assert recipe.pixels == dataclasses.replace(KnnRecipe().pixels, img_size=224)
    (result,) = run(request(few_digits, tmp_path, path, "pixels.img_size=32", "num_workers=0"))
    assert list(result.metrics) == ["top1", "top5", "top1_k10", "top1_k20"]
    assert result.protocol == "20-NN, cosine, T = 0.07, [CLS], 32 px"
