"""Suite files: what they expand to, and which are refused in one line."""

from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.runtime.errors import InputError
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Run

WHOLE = """
task: knn
data: digits
checkpoints:
  MAE: weights/backbone.pt
  random weights: random:vit_demo_patch4_32
entries:
  - name: plain
  - name: grid
    recipe: downstream/embedded_knn.py
    overrides: [num_workers=0]
    matrix:
      k: [5, 10]
      pixels.img_size: [32]
    checkpoints: {MAE: other.pt}
"""
MADE = """
seeds: [0, 1]
prepare:
  digits: data embedded --seed 3
  store: data pack --images made:digits/embedded --layout patch --size 32
data: made:digits/embedded
checkpoints:
  MiCL:
    recipe: pretrain/embedded.py
    data: made:store
    one_at_a_time: {objective.kappa: [0]}
  file: given.pt
entries:
  - {name: finetune, task: finetune}
  - {name: robustness, task: robustness, data: made:digits, of: [finetune]}
  - {name: logistic, task: logistic, methods: [MiCL]}
  - {name: knn, task: knn, overrides: [k=5]}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def read(tmp_path: Path, text: str, *assignments: str) -> list[Run]:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return expand(read_file(path, assignments))


def commands(runs: list[Run]) -> list[str]:
    """With the key out of sight, which differs from file to file."""
    return [run.command(Path("out")).replace(run.key[:8], "KEY") for run in runs]


def test_each_checkpoint_meets_each_combination(tmp_path: Path) -> None:
    runs = read(tmp_path, WHOLE)
    grid = (
        "micl-bench eval knn --checkpoint other.pt --data digits --recipe "
        "downstream/embedded_knn.py --set num_workers=0 --set k={0} --set pixels.img_size=32 "
        "--method MAE --out out/knn/MAE/num_workers=0,k={0},img_size=32-KEY"
    )
    assert commands(runs) == [
        "micl-bench eval knn --checkpoint weights/backbone.pt --data digits --method MAE "
        "--out out/knn/MAE/KEY",
        "micl-bench eval knn --checkpoint random:vit_demo_patch4_32 --data digits --method "
        "'random weights' --out out/knn/random_weights/KEY",
        grid.format(5),
        grid.format(10),
    ]
    assert [run.name for run in runs[2:]] == [
        "grid/MAE/k=5,img_size=32",
        "grid/MAE/k=10,img_size=32",
    ]
    assert runs[2].values == (("k", "5"), ("img_size", "32"))


def test_what_a_suite_makes_comes_first_once_and_for_each_seed(tmp_path: Path) -> None:
    runs = read(tmp_path, MADE)
    names = [run.name for run in runs]
    changed = "MiCL (kappa=0)"
    assert names[:2] == ["prepare/digits", "prepare/store"]
    assert sorted(name for name in names if name.startswith("pretrain/")) == [
        "pretrain/MiCL (kappa=0)/seed=0",
        "pretrain/MiCL (kappa=0)/seed=1",
        "pretrain/MiCL/seed=0",
        "pretrain/MiCL/seed=1",
    ]
    for task in ("finetune", "robustness"):
        wanted = {f"{task}/{m}/seed={s}" for m in ("MiCL", "file") for s in (0, 1)}
        made = {name for name in names if name.startswith(f"{task}/")}
        assert wanted <= made
        assert len(made) == 6
    # Another seed draws nothing in k-NN of a given file: it would be the same number again.
    assert [name for name in names if name.startswith("knn/file")] == ["knn/file/seed=0"]
    by_name = {run.name: run for run in runs}
    for run in runs:
        assert all(names.index(need.name) < names.index(run.name) for need in run.needs)
        assert all(names.index(first.name) < names.index(run.name) for first in run.after)
    knn = by_name[f"knn/{changed}/seed=1"]
    assert knn.needs == (by_name[f"pretrain/{changed}/seed=1"], by_name["prepare/digits"])
    # Logistic regression came first in the file, and k-NN reads its features.
    assert knn.after == (by_name[f"logistic/{changed}/seed=1"],)
    pretrain = by_name[f"pretrain/{changed}/seed=1"].command(Path("out"))
    assert "--set objective.kappa=0 --set seed=1" in pretrain
    assert f"{by_name['prepare/store'].folder}/data" in pretrain
    robust = by_name["robustness/MiCL/seed=1"]
    assert f"{by_name['finetune/MiCL/seed=1'].folder}/classifier.pt" in robust.command(Path("o"))


def test_dense_tasks_take_their_seed_where_their_configs_have_it(tmp_path: Path) -> None:
    text = "{task: coco, data: d, seeds: [4], checkpoints: {m: c}, entries: [{name: n}]}"
    assert "--set randomness.seed=4" in commands(read(tmp_path, text))[0]


def test_the_top_of_the_file_can_be_changed_by_command(tmp_path: Path) -> None:
    runs = read(tmp_path, WHOLE, "data=/data/real", "checkpoints.new=mae.pt", "seeds=[7]")
    assert [run.method for run in runs[:3]] == ["MAE", "random weights", "new"]
    assert all("--data /data/real" in command for command in commands(runs))
    assert {run.seed for run in runs} == {7}
    (made, *_) = [r for r in read(tmp_path, MADE, "checkpoints.MiCL=x.pt") if r.task == "finetune"]
    assert "--checkpoint x.pt" in made.command(Path("o"))


def test_keys_that_end_alike_are_told_in_full(tmp_path: Path) -> None:
    matrix = "matrix: {a.lr: [1.0e-3], b.lr: [2.0e-3]}"
    runs = read(
        tmp_path, f"{{task: knn, data: d, checkpoints: {{m: c}}, entries: [{{name: n, {matrix}}}]}}"
    )
    assert runs[0].name == "n/m/a.lr=0.001,b.lr=0.002"


@pytest.mark.parametrize("method", ["..", "../../etc/x", ".hidden", "/", "a\u202eb", "é" * 100])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, method: str) -> None:
    text = WHOLE.replace("MAE:", f'"{method}":')
    if not method.isprintable():
        with pytest.raises(InputError, match="cannot be printed"):
            read(tmp_path, text)
        return
    for run in read(tmp_path, text):
        assert ".." not in run.folder.parts
        assert len(run.folder.parts) == 3
        assert all(len(part.encode()) < 256 and part[0] != "." for part in run.folder.parts)


def test_a_recipe_is_found_beside_the_suite_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "ours" / "suites" / "x.yaml"
    suite.parent.mkdir(parents=True)
    suite.write_text(
        "{task: knn, data: d, checkpoints: {r: random:vit_demo_patch4_32}, "
        "entries: [{name: knn, recipe: mine/knn.py}]}"
    )
    recipe = tmp_path / "ours" / "mine" / "knn.py"
    recipe.parent.mkdir()
    recipe.write_bytes((REPOSITORY / "downstream" / "embedded_knn.py").read_bytes())
    monkeypatch.chdir(recipe.parents[1])
    here = [(run.name, run.key) for run in expand(read_file(suite))]
    monkeypatch.chdir(tmp_path)
    runs = expand(read_file(suite))
    assert [(run.name, run.key) for run in runs] == here
    words = next(run for run in runs if run.task == "knn").arguments(Path("o"))
    assert Path(words[words.index("--recipe") + 1]).is_file()


ENTRY = "task: knn\ndata: d\ncheckpoints: {m: c}\nentries:\n  - name: n\n"
STEP = "prepare: {s: data embedded}\n" + ENTRY
PRE = "{recipe: pretrain/embedded.py, data: d}"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have `entries`"),
        ("[1, 2]", "must be a mapping"),
        ("entries: [", "is no suite file"),
        ("entries: []", "must have `entries`"),
        ("entries: {a: 1}", "must have `entries`"),
        ("entries: [word]", "$.entries[0] is 'word'; needed: a mapping"),
        (ENTRY.replace("data", "dta"), "has dta; known: checkpoints, data, data_root, entries"),
        (ENTRY + "    matrx: {k: [1]}\n", "$.entries[0] has matrx; known:"),
        (ENTRY.replace("data: d\n", ""), "$.entries[0] has no data"),
        (ENTRY.replace("knn", "knnn"), "has task 'knnn'; known: ade20k"),
        (ENTRY + "  - name: n\n", "two entries called 'n'"),
        (ENTRY + "    matrix: {k: []}\n", ".matrix.k is []; needed: a list of words"),
        (ENTRY + "    matrix: {k: [{a: 1}]}\n", ".matrix.k[0] is {'a': 1}; needed: a word or a number"),
        (ENTRY + "    matrix: {k: 5}\n", ".matrix.k is 5; needed: a list of words"),
        ("matrix: {k: 5}\n" + ENTRY, "$.entries[0].matrix.k is 5; needed: a list"),
        (ENTRY + "    overrides: [k5]\n", "[0] is 'k5'; needed: a text of the form a.b=value"),
        (ENTRY + "    processes: 0\n", ".processes is 0; needed: a whole number from 1"),
        (ENTRY + f"    processes: {'9' * 20}\n", "needed: a whole number from 1 to 1,024"),
        (ENTRY + "    seeds: [0, 0]\n", "seeds [0, 0]; give each once"),
        (ENTRY + "    seeds: [-1]\n", "$.entries[0].seeds[0] is -1; needed: a whole number from 0"),
        (ENTRY + "    seeds: [x]\n", "$.entries[0].seeds[0] is 'x'"),
        (ENTRY + "    methods: [x]\n", "has method 'x'; checkpoints: m"),
        (ENTRY + "    recipe: none.py\n", "none is shipped under the name 'none'"),
        (ENTRY + "    of: [n]\n", "names 'n', no entry above it"),
        (ENTRY + "    of: [other]\n", "names 'other', no entry above it"),
        (ENTRY + "    of: [n]\n    seeds: [1]\n", "has both `of` and checkpoints"),
        (ENTRY + "  - {name: o, of: [n]}\n", "names 'n', which is no linear or finetune"),
        (ENTRY.replace("data: d", "data: made:s"), "names no step above it in `prepare`; known: none"),
        (STEP.replace("data: d\n", "data: made:s/../x\n"), "is not of the form made:STEP"),
        (STEP.replace("data: d\n", "data: made:s//etc\n"), "is not of the form made:STEP"),
        (STEP.replace("data embedded", "data verify x"), "must begin with data embedded or data pack"),
        (STEP.replace("data embedded", "data embedded --out=x"), "leave out --out: the suite chooses"),
        (STEP.replace("data embedded", "data pack --images made:s"), "names no step above it"),
        (STEP.replace("data embedded", "'data \"'"), "No closing quotation"),
        (STEP.replace("s: data", "a/b: data"), "a name without '/'"),
        ("prepare: [1]\n" + ENTRY, "prepare must be a mapping"),
        (ENTRY.replace("m: c", "m: [1]"), "a checkpoint is a word, or a mapping"),
        (ENTRY.replace("m: c", "m: {recipe: x}"), "$.entries[0].checkpoints.m has no data"),
        (ENTRY.replace("m: c", "m: {recipe: x, data: d}"), "none is shipped under the name 'x'"),
        (ENTRY.replace("m: c", "m: {recipe: x, data: d, lr: 1}"), "checkpoints.m has lr; known:"),
        (ENTRY.replace("c}", PRE[:-1] + ", one_at_a_time: {a: 1}}}"), "m.one_at_a_time.a is 1; needed"),
        (ENTRY.replace("c}", PRE[:-1] + ", overrides: [x]}}"), "m.overrides[0] is 'x'; needed: a text"),
        (ENTRY.replace("c}", "--debug}"), "begins with a dash"),
        (ENTRY.replace("c}", "'${oc.env:HOME}'}"), "write the value itself"),
        (ENTRY.replace("data: d", "data: '${oc.env:HOME}'"), "write the value itself"),
        (ENTRY + "    recipe: ${entries}\n", "write the value itself"),
        (ENTRY + '    recipe: "a\\eb"\n', "cannot be printed"),
        (ENTRY + "    seeds: ['${x}']\n", "write the value itself"),
        (ENTRY + "    matrix: ${x}\n", "write the value itself"),
        (ENTRY + "    seeds: [[1]]\n", "$.entries[0].seeds[0] is [1]; needed: a whole number"),
        (ENTRY + "    methods: [[m]]\n", "$.entries[0].methods[0] is ['m']; needed: a word"),
        (ENTRY + "    of: [{a: 1}]\n", "$.entries[0].of[0] is {'a': 1}; needed: a word"),
        (STEP.replace("data embedded", "data pack --images=made:s"), "write '--images made:s', without"),
        (ENTRY.replace("m: c", f"{'m' * 95}: {PRE[:-1]}, one_at_a_time: {{epochs: [1]}}}}"),
         "has 1 to 100 letters, this one 106"),
        (ENTRY.replace("m: c", f"{'m' * 101}: c"), "has 1 to 100 letters"),
        (ENTRY + "    matrix: {a: [" + ",".join(map(str, range(101))) + "], "
         "b: [" + ",".join(map(str, range(100))) + "]}\n", "more than 10,000 runs"),
        (BOMB, "has a YAML alias"),
        (f"a: {'x' * (1 << 20)}", "larger than"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_no_file_and_a_wrong_assignment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no suite file at"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="has no '='"):
        read(tmp_path, ENTRY, "data")
    with pytest.raises(InputError, match="has dta; known"):
        read(tmp_path, ENTRY, "dta=x")
