"""Before the first run begins: recipes, overrides, architectures and formats of all are looked at."""

from pathlib import Path

import pytest
from support import REPOSITORY, Run

SUITE = """
data: none
recipe: {root}/downstream/embedded_knn.py
task: knn
checkpoints: {{m: random:vit_demo_patch4_32}}
entries:
  - {{name: good, overrides: [k=5]}}
  - {{name: bad{bad}}}
"""
WRONG = {
    "key": (", overrides: [kk=5]", "bad/m: unknown recipe key 'kk'"),
    "value": (", matrix: {k: [5, five]}", "bad/m/k=five: "),
    "arch": (", checkpoints: {m: 'random:vit_none'}", "bad/m: no architecture is called 'vit_none'"),
    "named arch": (", checkpoints: {m: {checkpoint: x, arch: vit_none}}", "is called 'vit_none'"),
    "timm": (", checkpoints: {m: 'timm:vit_none'}", "'vit_none'"),
    "public": (", checkpoints: {m: 'public:mae_vit_bas'}", "Did you mean mae_vit_base"),
    "recipe of another task": (", task: linear, recipe: {root}/downstream/embedded_knn.py",
                               "must assign `recipe` a LinearRecipe"),
    "recipe that kills": (", recipe: kills.py", "ended with SIGKILL"),
    "recipe that exits": (", recipe: exits.py", "exits.py"),
    "no config": (", task: coco, recipe: ''", "needs an mmengine config"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_run_that_could_not_begin_keeps_all_from_beginning(
    micl_bench: Run, tmp_path: Path, kind: str
) -> None:
    bad, words = WRONG[kind]
    (tmp_path / "kills.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    text = SUITE.format(root=REPOSITORY, bad=bad.replace("{root}", str(REPOSITORY)))
    (tmp_path / "s.yaml").write_text(text)
    done = micl_bench("suite", "run", "s.yaml", "--out", "store")
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()
    assert said[0] == "looking at the recipes of 2 runs" or kind == "value"
    assert words in said[1]
    assert len(said) == 2
    assert len(said[1]) < 310
    assert not (tmp_path / "store").exists()
