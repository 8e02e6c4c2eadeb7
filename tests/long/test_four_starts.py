"""k-NN, linear probe and logistic regression on the embedded digits, from four starts.

MiCL, an MAE that lightly trained with the same images, steps and schedule, random weights, and the
pixels themselves.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import REPOSITORY, Command, Run
from torch import Tensor

from micl_bench.data.folder import Folder, open_folder, read_image, to_tensor
from micl_bench.data.pixels import normalise
from micl_bench.engine.frozen.knn import knn_scores, top1
from micl_bench.engine.frozen.logistic import fit_logistic
from micl_bench.engine.frozen.probe.batches import StoredFeatures
from micl_bench.engine.frozen.probe.heads import Probe
from micl_bench.records.statistics import wilson
from micl_bench.records.store import read_results
from micl_bench.runtime.config import load_recipe
from micl_bench.tasks.linear.run import LinearRecipe

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ARCH = "vit_demo_patch4_32"
TASKS = ("knn", "linear", "logistic")
Cell = tuple[float, float, float]
"""top-1 in percent, and its 95 % interval."""


@pytest.fixture(scope="module")
def checkpoints(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where each start's weights are; the two that are trained take a minute or two each."""
    folder = tmp_path_factory.mktemp("starts")
    recipe, digits = REPOSITORY / "pretrain" / "embedded.py", embedded / "embedded"
    done = Command("pretrain", recipe, "--data", digits, "--out", folder / "micl").wait()
    assert done.returncode == 0, done.stderr
    script = REPOSITORY / "tests" / "long" / "mae_lightly.py"
    subprocess.run([sys.executable, script, digits, folder / "mae.pth"], check=True)
    return {
        "MiCL": str(folder / "micl" / "backbone.pt"),
        "MAE (lightly)": str(folder / "mae.pth"),
        "random weights": f"random:{ARCH}",
    }


@pytest.fixture(scope="module")
def table(
    checkpoints: dict[str, str], embedded: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Cell]]:
    out = tmp_path_factory.mktemp("evaluated")
    rows = {"pixels": of_pixels(embedded / "embedded")}
    for number, (start, source) in enumerate(checkpoints.items()):
        rows[start] = {}
        for task in TASKS:
            folder = out / str(number) / task
            recipe = REPOSITORY / "downstream" / f"embedded_{task}.py"
            options = ("--recipe", recipe, "--data", embedded / "embedded", "--out", folder)
            # Heads are width / 64 unless told, and this ViT's are narrower.
            options += ("--arch", ARCH) if source.endswith("mae.pth") else ()
            done = Command("eval", task, "--checkpoint", source, *options).wait()
            assert done.returncode == 0, done.stderr
            (result,) = read_results(folder)
            low, high = result.metrics["top1"].interval
            rows[start][task] = (result.values["top1"], low, high)
    return rows


def of_pixels(data: Path) -> dict[str, Cell]:
    """The same measurements on flattened pixels, normalised as every network's are."""
    (train_ND, labels_N), (test_MD, labels_M) = (flat(data / split) for split in ("train", "val"))

    def accuracy(c: float, fit: Tensor, judged_ND: Tensor, judged_N: Tensor) -> float:
        model = fit_logistic(
            train_ND[fit], labels_N[fit], num_classes=10, c=c, max_iter=500, tolerance=1e-6
        )
        return top1(model.logits(judged_ND), judged_N)

    held_out = torch.arange(len(labels_N)) % 10 == 0
    strengths = (1e-3, 1e-2, 1e-1, 1.0)
    tried = [accuracy(c, ~held_out, train_ND[held_out], labels_N[held_out]) for c in strengths]
    best = strengths[tried.index(max(tried))]
    everything = torch.ones_like(held_out)
    found = {
        "knn": top1(knn_scores(train_ND, labels_N, test_MD, k=10), labels_M),
        "linear": probed(train_ND, labels_N, test_MD, labels_M),
        "logistic": accuracy(best, everything, test_MD, labels_M),
    }
    return {task: (value, *wilson(value, len(labels_M))) for task, value in found.items()}


def probed(train_ND: Tensor, labels_N: Tensor, test_MD: Tensor, labels_M: Tensor) -> float:
    """The probe of downstream/embedded_linear.py, whose one head reads `cls_1`."""
    recipe = load_recipe(REPOSITORY / "downstream" / "embedded_linear.py", LinearRecipe)
    plan = recipe.probe.plan(len(labels_N))
    widths = {"cls_1": train_ND.shape[1]}
    probe = Probe(recipe.probe, plan, widths=widths, num_classes=10, seed=recipe.seed)
    # Only their labels are read.
    paths, classes = tuple(map(Path, map(str, range(len(labels_N))))), tuple(map(str, range(10)))
    labels = tuple(labels_N.tolist())
    batches = StoredFeatures(
        folder=Folder(root=Path("none"), classes=classes, paths=paths, labels=labels),
        features={"cls_1": train_ND},
        rows_K=np.arange(len(labels_N)),
        batch_size=plan.batch_size,
        seed=recipe.seed,
    )
    for step, (features, labels) in enumerate(batches(range(plan.total_steps))):
        probe.step(features, labels, step=step)
    (head,) = probe.grid
    return top1(probe.logits(head, {"cls_1": test_MD}), labels_M)


def flat(folder: Path) -> tuple[Tensor, Tensor]:
    images = open_folder(folder)
    pixels_N3HW = torch.stack([to_tensor(read_image(path)) for path in images.paths])
    return normalise(pixels_N3HW).flatten(1), torch.tensor(images.labels)


def test_the_table_of_four_starts(
    table: dict[str, dict[str, Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print("\n" + "".join(f"{name:26}" for name in ("start", *TASKS)))
        for start, row in table.items():
            cells = (
                "{:5.2f} [{:5.2f}, {:5.2f}]".format(*row[t]) if t in row else "" for t in TASKS
            )
            print("".join(f"{text:26}" for text in (start, *cells)))
    assert set(table) == {"MiCL", "MAE (lightly)", "random weights", "pixels"}
    for cell in (cell for row in table.values() for cell in row.values()):
        assert 10 < cell[1] <= cell[0] <= cell[2] <= 100


def test_pretraining_beats_random_weights(table: dict[str, dict[str, Cell]]) -> None:
    value, _, _ = table["MiCL"]["knn"]
    assert value > table["random weights"]["knn"][2]


def test_inspect_names_the_library_that_made_it(
    checkpoints: dict[str, str], micl_bench: Run
) -> None:
    done = micl_bench("inspect", checkpoints["MAE (lightly)"], "--arch", ARCH)
    assert done.returncode == 0, done.stderr
    assert "lightly" in done.stdout
