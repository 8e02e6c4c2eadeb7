"""The task `representation`: its numbers against their definitions, its pictures' files."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from support import REPOSITORY, Run

from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.data.folder import open_folder
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.frozen.pictures.view_similarity import features_of_views
from micl_bench.objectives.micl import MiCL
from micl_bench.records.result import Record, Result, write_result
from micl_bench.report.figures.all_figures import draw_all
from micl_bench.report.frame.selection import select
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import Request
from micl_bench.tasks.representation import run as representation
from micl_bench.tasks.representation.run import RepresentationRecipe

RECIPE = REPOSITORY / "downstream" / "embedded_representation.py"
CPU = torch.device("cpu")
RANDOM = "random:vit_demo_patch4_32"


def request(data: Path, out: Path, *overrides: str, checkpoint: str = "") -> Request:
    places = {"data": data, "out": out, "recipe": RECIPE}
    return Request(checkpoint=checkpoint or RANDOM, overrides=overrides, command="test", **places)


@pytest.fixture(scope="module")
def measured(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("representation")
    (result,) = representation.run(request(few_digits, out))
    return result, write_result(result, out)


def test_numbers_are_their_definitions(measured: tuple[Result, Path], few_digits: Path) -> None:
    result, _ = measured
    source, checkpoint = open_folder(few_digits / "val"), load_checkpoint(result.checkpoint.source)
    recipe = load_recipe(RECIPE, RepresentationRecipe)
    (batch,) = evaluation_batches(source, recipe.pixels, batch_size=len(source))
    with torch.no_grad():
        whole = checkpoint.backbone().forward_features(checkpoint.normalise(batch.images))[:, 0]
    unit = torch.nn.functional.normalize(whole.double(), dim=-1).numpy()
    pairs = [
        np.exp(-2 * np.sum((unit[i] - unit[j]) ** 2))
        for i, j in product(range(len(unit)), repeat=2)
        if i != j
    ]
    assert result.values["uniformity"] == pytest.approx(np.log(np.mean(pairs)), abs=1e-4)
    singular = np.linalg.svd(whole.double().numpy(), compute_uv=False)
    share = singular / singular.sum()
    entropy = -np.sum(share * np.log(share + 1e-12))
    assert result.values["rankme"] == pytest.approx(np.exp(entropy), rel=1e-3)
    views = {"precision": "fp32", "seed": recipe.seed, "number": 10**6, "device": CPU}
    wants = MiCL(MiCL.Config(mask_ratio=recipe.mask_ratio)).wants
    features = features_of_views(checkpoint, source, wants, recipe.pixels, **views)
    unit_views = torch.nn.functional.normalize(features.double(), dim=-1).numpy()
    positive = [float(image[0] @ image[1]) for image in unit_views]
    negative = [
        float(unit_views[i, 0] @ unit_views[j, 1])
        for i, j in product(range(len(unit_views)), repeat=2)
        if i != j
    ]
    assert result.values["positive_cosine"] == pytest.approx(np.mean(positive), abs=1e-5)
    assert result.values["negative_cosine"] == pytest.approx(np.mean(negative), abs=1e-5)
    assert result.values["alignment"] == pytest.approx(2 - 2 * np.mean(positive), abs=1e-5)


def test_a_report_draws_its_files_and_they_are_small(measured: tuple[Result, Path]) -> None:
    result, path = measured
    files = [path.parent / name for name in result.artifacts.values()]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 100_000
    pictures, _ = draw_all(select([Record.of(result, path)]))
    names = [picture.name for picture in pictures]
    assert names == ["attention", "patches", "features", "similarity"]
    assert all(p.png.startswith(b"\x89PNG") and p.pdf.startswith(b"%PDF") for p in pictures)
    again, _ = draw_all(select([Record.of(result, path)]))
    assert [(p.png, p.pdf) for p in pictures] == [(p.png, p.pdf) for p in again]


def test_the_same_command_gives_the_same_files(
    measured: tuple[Result, Path], few_digits: Path, tmp_path: Path
) -> None:
    first, path = measured
    (second,) = representation.run(request(few_digits, tmp_path))
    assert second.metrics == first.metrics
    assert second.fingerprint == first.fingerprint
    for name in first.artifacts.values():
        assert (tmp_path / name).read_bytes() == (path.parent / name).read_bytes()


def test_without_cls_no_views_are_compared(few_digits: Path, tmp_path: Path) -> None:
    plain = load_checkpoint("random:vit_demo_patch4_32")
    arch = dataclasses.replace(plain.arch, class_token=False)
    torch.manual_seed(0)
    path = tmp_path / "other.pt"
    save_checkpoint(path, arch.build_any().eval(), arch, method="other", provenance={})
    (result,) = representation.run(request(few_digits, tmp_path / "out", checkpoint=str(path)))
    assert set(result.metrics) == {"uniformity", "rankme"}
    assert set(result.artifacts) == {"attention", "patches", "features"}
    with np.load(tmp_path / "out" / result.artifacts["attention"]) as arrays:
        assert str(arrays["query"]) == "the mean patch"
    assert "mask_ratio" not in result.settings


@pytest.mark.parametrize(
    ("override", "words"),
    [("pictures=0", "needed"), ("perplexity=0.5", "at least 1"), ("images=3", "needed")],
)
def test_a_wrong_recipe_is_named(
    few_digits: Path, tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        representation.run(request(few_digits, tmp_path, override))


def test_the_command(few_digits: Path, micl_bench: Run) -> None:
    done = micl_bench(
        *("eval", "representation", "--checkpoint", "random:vit_demo_patch4_32"),
        *("--recipe", RECIPE, "--data", few_digits, "--out", "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "rankme" in done.stdout
