"""Before the first run begins: recipes, overrides, architectures and formats of all are looked at."""

import dataclasses
import json
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.suites import preflight
from micl_bench.suites.preflight import Look

KNN = str(REPOSITORY / "downstream" / "embedded_knn.py")
PRETRAIN = str(REPOSITORY / "pretrain" / "embedded.py")
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
    "recipe that exits": ({"recipe": "exits.py"}, "exits.py"),
    "recipe that is no Python": ({"recipe": "text.py"}, "text.py"),
    "no config": ({"task": "coco", "recipe": "", "sets": ()}, "needs an mmengine config"),
    "arch of a pre-training": ({"task": "pretrain", "recipe": PRETRAIN, "sets": ("arch=vit_none",),
                                "checkpoint": ""}, "'vit_none'"),
}  # fmt: skip


def told(folder: Path, *looks: Look) -> list[str]:
    asked = folder / "asked.json"
    asked.write_text(json.dumps([dataclasses.asdict(look) for look in looks]))
    preflight.main(asked, folder / "told")
    return (folder / "told").read_text().splitlines()


def test_what_can_begin_is_let_begin(tmp_path: Path) -> None:
    pretrain = Look("p", "pretrain", PRETRAIN, ("epochs=2",), "", "")
    plain = Look("q", "knn", "", (), "vit_small_patch16_224", "")
    assert told(tmp_path, GOOD, pretrain, plain) == ["done"]


@pytest.mark.parametrize("kind", WRONG)
def test_what_could_not_begin_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exits.py").write_text("raise SystemExit(3)\n")
    Path("text.py").write_text("once upon a time\n")
    changes, words = WRONG[kind]
    number, problem = told(tmp_path, GOOD, dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]
    assert number == "1"
    assert words in problem


@pytest.mark.long
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (", matrix: {k: [5, five]}", "bad/m/k=five: "),
        (", recipe: kills.py", "bad/m: reading its recipe kills.py ended with SIGKILL"),
        (", checkpoints: {m: {checkpoint: x, format: dyno}}", "has format 'dyno'; known:"),
    ],
)
def test_one_that_could_not_begin_keeps_all_from_beginning(
    micl_bench: Run, tmp_path: Path, bad: str, words: str
) -> None:
    (tmp_path / "kills.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (tmp_path / "s.yaml").write_text(
        f"data: none\nrecipe: {KNN}\ntask: knn\ncheckpoints: {{m: random:vit_demo_patch4_32}}\n"
        f"entries:\n  - {{name: good, overrides: [k=5]}}\n  - {{name: bad{bad}}}\n"
    )
    done = micl_bench("suite", "run", "s.yaml", "--out", "store")
    assert done.returncode == 2, done.stderr
    (last,) = done.stderr.splitlines()
    assert words in last
    assert len(last) < 310
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()
