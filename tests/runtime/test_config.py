"""Recipes: overrides are typed, unknown keys are refused, tuples stay tuples."""

import re
from pathlib import Path

import pytest

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig
from micl_bench.runtime.config import digest, load_recipe, override
from micl_bench.runtime.errors import InputError


@pytest.fixture
def recipe() -> PretrainRecipe:
    return PretrainRecipe(
        arch="vit_demo_patch4_32",
        objective=MiCL.Config(mask_ratio=0.5),
        pixels=Pixels(img_size=32, crop_pct=1.0),
        optim=OptimConfig(base_lr=1e-3),
        batch_size=8,
        epochs=2,
    )


def test_nested_override_changes_that_value_alone(recipe: PretrainRecipe) -> None:
    changed = override(recipe, ["optim.base_lr=3e-4", "pixels.crop_scale=[0.2,1.0]", "epochs=5"])
    assert changed.optim == OptimConfig(base_lr=3e-4)
    assert changed.pixels.crop_scale == (0.2, 1.0)
    assert (changed.epochs, changed.batch_size) == (5, 8)
    assert recipe.epochs == 2
    assert digest(changed) != digest(recipe) == digest(override(recipe, []))


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("epoch=3", "'epoch' is not one of: arch, objective"),
        ("optim.lr=3", "'lr' is not one of: base_lr"),
        ("epochs.x=3", "nothing below it"),
        ("epochs=many", "epochs is 'many'; needed: a whole number"),
        ("epochs", "has no '='"),
        ("epochs=0", "epochs is 0; needed: 1 or more"),
        ("objective.mask_ratio=0.99", "leaves no patch"),
        ("pixels.img_size=30", "no multiple of patch_size"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(
    recipe: PretrainRecipe, assignment: str, words: str
) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        override(recipe, [assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("recipe = 3", "must assign `recipe` a PretrainRecipe"),
        ("x = 1", "it holds NoneType"),
        ("1 / 0", "does not run: division by zero"),
        (
            "from micl_bench.engine.pretraining.recipe import PretrainRecipe\n"
            "recipe = PretrainRecipe(epoch=3)",
            "unexpected keyword argument 'epoch'",
        ),
    ],
)
def test_bad_recipe_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.py"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_recipe(path, PretrainRecipe)
