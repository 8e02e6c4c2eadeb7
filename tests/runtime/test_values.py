"""Recipes and what their values may be: overrides, files, and every key of every recipe with values that
make no sense, from a command line and from Python; one line refuses them."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig
from micl_bench.runtime import plugins
from micl_bench.runtime.config import digest, load_recipe, override, resolve, to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Count, Listed, Values, Within
from micl_bench.tasks import running
from micl_bench.tasks.knn.run import KnnRecipe
from micl_bench.tasks.linear.run import LinearRecipe
from micl_bench.tasks.logistic.run import LogisticRecipe
from micl_bench.tasks.representation.run import RepresentationRecipe
from micl_bench.tasks.robustness.run import RobustnessRecipe

LONGEST_LINE = 300
PRETRAIN = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=MiCL.Config(mask_ratio=0.5),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=1e-3),
    batch_size=8,
    epochs=2,
)
RECIPES: list[Any] = [
    PRETRAIN,
    FinetuneRecipe(),
    KnnRecipe(),
    LinearRecipe(),
    LogisticRecipe(),
    RepresentationRecipe(),
    RobustnessRecipe(),
]
NASTY = (
    *("", " ", "-1", "0", "-0.5", "1e309", "-1e309", "nan", "inf", "-inf", ".inf", "1.5", "1e300"),
    *("1e-320", str(10**18), str(1 << 63), "9" * 5000, "true", "null", "~", "*x", "&a 1"),
    *(
        "!!python/x",
        "[" * 2000,
        "[1",
        "[]",
        "[1,2,3]",
        "[[1,2],3]",
        "{a: 1}",
        "[nan,1]",
        "[0.9,0.1]",
        "[-1,-1]",
    ),
    *(
        "[-1,-1]",
        "a\0b",
        "a\nb",
        "\x1b[31m",
        "\udcff",
        "${oc.env:HOME}",
        "'",
        "x" * 100_000,
        "0x10",
        "1__0",
    ),
)


def keys_of(recipe: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a recipe, dotted, with its value."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, f"{place}{field.name}.")
        else:
            yield f"{place}{field.name}", value


def line(error: InputError) -> str:
    text = f"error: {error}"
    assert len(text) <= LONGEST_LINE
    assert "\n" not in text
    assert text.isprintable()
    lowered = text.lower()
    assert not any(word in lowered for word in ("omegaconf", "yaml", "traceback", "<class"))
    return text


def test_nested_override_changes_that_value_alone() -> None:
    changed = override(PRETRAIN, ["optim.base_lr=3e-4", "pixels.crop_scale=[0.2,1.0]", "epochs=5"])
    assert changed.optim == OptimConfig(base_lr=3e-4)
    assert changed.pixels.crop_scale == (0.2, 1.0)
    assert (changed.epochs, changed.batch_size) == (5, 8)
    assert PRETRAIN.epochs == 2
    assert digest(changed) != digest(PRETRAIN) == digest(override(PRETRAIN, []))


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("epoch=3", "'epoch' is not one of: arch, objective"),
        ("optim.lr=3", "'lr' is not one of: base_lr"),
        ("epochs.x=3", "nothing below it"),
        ("epochs", "has no '='"),
        ("objective.mask_ratio=0.99", "leaves no patch"),
        ("pixels.img_size=30", "no multiple of patch_size"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        override(PRETRAIN, [assignment])
    line(caught.value)


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


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_a_nasty_value_is_refused_in_one_line_or_is_one_that_the_key_may_have(recipe: Any) -> None:
    refused = taken = 0
    for key, _ in keys_of(recipe):
        for text in NASTY:
            try:
                changed = override(recipe, [f"{key}={text}"])
            except InputError as error:
                line(error)
                refused += 1
                continue
            taken += 1
            # What is taken is what the same key takes again, and what JSON can hold.
            assert override(changed, []) == changed
            to_dict(changed)
    assert refused > 3 * taken


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_no_key_takes_a_number_below_its_minimum_or_none_at_all(recipe: Any) -> None:
    numbers = [(key, old) for key, old in keys_of(recipe) if type(old) in (int, float)]
    assert numbers
    for key, _ in numbers:
        for text in ("-1", "nan", "inf", "-inf", "1e309", "many", "true", "[1]", "", "9" * 400):
            with pytest.raises(InputError) as caught:
                override(recipe, [f"{key}={text}"])
            assert line(caught.value).startswith(f"error: {key} is ")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_python_and_the_command_line_refuse_the_same(recipe: Any) -> None:
    for key, old in keys_of(recipe):
        if "." in key or type(old) not in (int, float):
            continue
        for value in (-1, float("nan"), float("inf"), "1", None, True, [1], 10**400):
            with pytest.raises(InputError, match=rf"^{key} is .+; needed: ") as caught:
                dataclasses.replace(recipe, **{key: value})
            line(caught.value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("batch_size=-1", "batch_size is -1; needed: 1 or more"),
        ("num_workers=1000000", "num_workers is 1000000; needed: from 0 to 1,024"),
        ("seed=-1", "seed is -1; needed: 0 or more"),
        (f"seed={1 << 63}", "needed: from 0 to 2^63 - 1"),
        ("pool=max", "pool is 'max'; needed: cls or avg"),
        ("ks=10", "ks is '10'; needed: values in brackets, each a whole number: [a,b,...]"),
        ("ks=[10,0]", "a value of ks is 0; needed: 1 or more"),
        ("pixels.crop_scale=[0.5]", "needed: 2 values in brackets"),
        ("pixels.crop_scale=[0.9,0.1]", "the smaller number first"),
        ("pixels=3", "pixels holds several values; set one of them: pixels.img_size"),
        ("pixels.img_size=100000", "needed: from 0 to 4,096"),
        ("temperature=0", "temperature is 0.0; needed: 1e-12 or more"),
    ],
)
def test_the_line_says_what_was_given_and_what_is_allowed(assignment: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        override(KnnRecipe(), [assignment])
    assert words in line(caught.value)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("ks=[1, 2]", (1, 2)),
        ("ks=(3,)", (3,)),
        ("ks=[]", ()),
        ("k=1_000", 1000),
        ("temperature=1", 1.0),
        ("temperature=1e-3", 1e-3),
        ("pool='avg'", "avg"),
    ],
)
def test_values_are_read_as_they_are_written(assignment: str, value: object) -> None:
    found = getattr(override(KnnRecipe(), [assignment]), assignment.partition("=")[0])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["true", "Yes", "1", "on"])
def test_truths_are_read(text: str) -> None:
    assert override(PRETRAIN, [f"compile={text}"]).compile is True


@pytest.mark.parametrize(
    "values", ["batch_size=-1", "batch_size='8'", "ks=(1, 1)", "pixels=None", "k=10**5000"]
)
def test_a_recipe_file_with_such_a_value_gets_the_same_line(tmp_path: Path, values: str) -> None:
    path = tmp_path / "recipe.py"
    path.write_text(
        f"from micl_bench.tasks.knn.run import KnnRecipe\nrecipe = KnnRecipe({values})\n"
    )
    with pytest.raises(InputError, match="; needed: ") as caught:
        load_recipe(path, KnnRecipe)
    assert str(caught.value).startswith(f"{path}: {values.partition('=')[0]} is ")


def test_lists_and_whole_numbers_of_a_recipe_file_become_what_the_field_declares() -> None:
    pixels = Pixels(crop_scale=[0.2, 1])  # type: ignore[arg-type]
    assert pixels.crop_scale == (0.2, 1.0)
    assert type(pixels.crop_scale[1]) is float
    assert hash(pixels) == hash(Pixels(crop_scale=(0.2, 1.0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Every(Values):
    """A field of each kind."""

    count: Count = 1
    share: Annotated[float, Within(above=0, below=1)] = 0.5
    bounded: Annotated[int, Within(2, 5)] = 2
    kind: Literal["a", "b"] = "a"
    names: Annotated[tuple[str, ...], Listed(2, once=True)] = ("x", "y")
    size: Annotated[int, Within(1)] | None = None


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("share=0", "above 0 and below 1"),
        ("share=1", "above 0 and below 1"),
        ("bounded=6", "from 2 to 5"),
        ("kind=c", "a or b"),
        ("names=[x]", "2 or more values"),
        ("names=[x,x]", "each value once"),
        ("size=0", "at least 1"),
    ],
)
def test_each_kind_of_bound_is_kept(assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        override(Every(), [assignment])
    assert override(Every(), ["size=null"]).size is None
    assert override(Every(), ["size=7", "names=[b, a]"]) == Every(size=7, names=("b", "a"))


def test_every_task_offers_the_kind_of_its_recipe() -> None:
    kinds = {
        name: getattr(running(name), "RECIPE", None)
        for name in plugins.names("tasks")
        if name not in ("ade20k", "coco")
    }
    for name, kind in kinds.items():
        assert isinstance(kind, type), name
        assert issubclass(kind, Values), name
        key = "batch_size" if hasattr(kind(), "batch_size") else "micro_batch"
        with pytest.raises(InputError, match=f"{key} is -1"):
            resolve(kind, None, [f"{key}=-1"])
