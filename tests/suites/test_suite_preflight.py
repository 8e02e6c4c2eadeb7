"""Before the first run begins: recipes, overrides, architectures and formats of all are looked at."""

import dataclasses
import re
from pathlib import Path

import pytest
from support import REPOSITORY, Run, refused

from micl_bench.runtime.errors import InputError
from micl_bench.suites.preflight import Look, check

KNN = REPOSITORY / "downstream" / "embedded_knn.py"
PRETRAIN = REPOSITORY / "pretrain" / "embedded.py"
GOOD = Look("good", "knn", KNN, ("k=5", "ks=[5]"), "", "random:vit_demo_patch4_32")
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "key": ({"sets": ("kk=5",)}, "unknown recipe key"),
    "value": ({"sets": ("k=five",)}, "k"),
    "least value": ({"sets": ("batch_size=-1",)}, "batch_size"),
    "drawn arch": ({"checkpoint": "random:vit_none"}, "no architecture is called 'vit_none'"),
    "named arch": ({"checkpoint": "", "arch": "vit_none"}, "is called 'vit_none'"),
    "value of an arch": ({"checkpoint": "", "arch": "heads=many"}, "heads=6, grid=14x14"),
    "pixels": ({"checkpoint": "", "pixels": "half"}, "needed is imagenet, inception, clip"),
    "timm": ({"checkpoint": "timm:vit_none"}, "is called 'vit_none'"),
    "public": ({"checkpoint": "public:mae_vit_bas"}, "Did you mean mae_vit_base"),
    "recipe of another task": ({"task": "linear"}, "must assign `recipe` a LinearRecipe"),
    "recipe that exits": ({"recipe": Path("exits.py")}, "exits.py"),
    "recipe that is no Python": ({"recipe": Path("text.py")}, "text.py"),
    "no config": ({"task": "coco", "recipe": None, "sets": ()}, "needs an mmengine config"),
    "arch of a pre-training": ({"task": "pretrain", "recipe": PRETRAIN, "sets": ("arch=vit_none",),
                                "checkpoint": ""}, "'vit_none'"),
}  # fmt: skip


def test_what_can_begin_is_let_begin() -> None:
    for look in (
        GOOD,
        Look("p", "pretrain", PRETRAIN, ("epochs=2",), "", ""),
        Look("q", "knn", None, (), "vit_small_patch16_224", ""),
    ):
        check(look)


@pytest.mark.parametrize("kind", WRONG)
def test_what_could_not_begin_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exits.py").write_text("raise SystemExit(3)\n")
    Path("text.py").write_text("once upon a time\n")
    changes, words = WRONG[kind]
    with pytest.raises(InputError, match=re.escape(words)):
        check(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (", matrix: {k: [5, five]}", "bad/m/k=five: "),
        (", recipe: exits.py", "bad/m: exits.py does not run: 3"),
        (", checkpoints: {m: {checkpoint: x, format: dyno}}", "has format 'dyno'; known:"),
    ],
)
def test_one_that_could_not_begin_keeps_all_from_beginning(
    micl_bench: Run, tmp_path: Path, bad: str, words: str
) -> None:
    (tmp_path / "exits.py").write_text("print('noise')\nraise SystemExit(3)\n")
    (tmp_path / "s.yaml").write_text(
        f"data: none\nrecipe: {KNN}\ntask: knn\ncheckpoints: {{m: random:vit_demo_patch4_32}}\n"
        f"entries:\n  - {{name: good, overrides: [k=5]}}\n  - {{name: bad{bad}}}\n"
    )
    done = refused(micl_bench("suite", "run", "s.yaml", "--out", "store"))
    (last,) = done.stderr.splitlines()
    assert words in last
    assert len(last) < 310
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()
