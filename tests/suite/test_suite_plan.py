"""Suite files: what they expand to, and which are refused in one line."""

import shlex
from pathlib import Path

import pytest
import yaml
from support import REPOSITORY

from micl_bench.errors import InputError
from micl_bench.suite.plan import Run, read_suite

WHOLE = """
task: knn
data: digits
checkpoints:
  MiCL: work/backbone.pt
  random weights: random:vit_demo_patch4_32
entries:
  - name: plain
  - name: grid
    recipe: downstream/embedded_knn.py
    overrides: [num_workers=0]
    matrix:
      k: [5, 10]
      pixels.img_size: [32]
    checkpoints: {MiCL: other.pt}
"""


def read(tmp_path: Path, text: str, *assignments: str) -> list[Run]:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return read_suite(path, Path("out"), assignments)


def commands(runs: list[Run]) -> list[str]:
    return [shlex.join(run.arguments) for run in runs]


def test_each_checkpoint_meets_each_combination(tmp_path: Path) -> None:
    runs = read(tmp_path, WHOLE)
    grid = (
        "eval knn --checkpoint other.pt --data digits --recipe downstream/embedded_knn.py "
        "--set num_workers=0 --set k={0} --set pixels.img_size=32 --method MiCL "
        "--out out/grid/MiCL/k={0},img_size=32"
    )
    assert commands(runs) == [
        "eval knn --checkpoint work/backbone.pt --data digits --method MiCL --out out/plain/MiCL",
        "eval knn --checkpoint random:vit_demo_patch4_32 --data digits --method 'random weights' "
        "--out out/plain/random_weights",
        grid.format(5),
        grid.format(10),
    ]
    assert [run.name for run in runs[2:]] == [
        "grid/MiCL/k=5,img_size=32",
        "grid/MiCL/k=10,img_size=32",
    ]
    assert runs[2].values == (("k", "5"), ("img_size", "32"))


def test_the_top_of_the_file_can_be_changed_by_command(tmp_path: Path) -> None:
    runs = read(tmp_path, WHOLE, "data=/data/real", "checkpoints.MAE=mae.pt")
    assert [run.method for run in runs[:3]] == ["MiCL", "random weights", "MAE"]
    assert all("--data /data/real" in command for command in commands(runs))


def test_keys_that_end_alike_are_told_in_full(tmp_path: Path) -> None:
    matrix = "matrix: {a.lr: [1.0e-3], b.lr: [2.0e-3]}"
    runs = read(
        tmp_path, f"{{task: knn, data: d, checkpoints: {{m: c}}, entries: [{{name: n, {matrix}}}]}}"
    )
    assert runs[0].name == "n/m/a.lr=0.001,b.lr=0.002"


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    text = WHOLE.replace("name: plain", "name: ../../etc/x").replace("MiCL:", '"..":')
    for run in read(tmp_path, text):
        assert ".." not in run.folder.parts
        assert run.folder.is_relative_to("out")


ENTRY = "task: knn\ndata: d\ncheckpoints: {m: c}\nentries:\n  - name: n\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have `entries`"),
        ("just words", "has just words; known: checkpoints"),
        ("[1, 2]", "must be a mapping"),
        ("entries: [", "is no suite file"),
        ("entries: []", "must have `entries`"),
        ("entries: {a: 1}", "must have `entries`"),
        ("entries: [word]", "entry 1 is not a mapping"),
        (ENTRY.replace("data", "dta"), "has dta; known: checkpoints, data, entries, matrix"),
        (ENTRY + "    matrx: {k: [1]}\n", "entry 1 has matrx; known:"),
        (ENTRY.replace("data: d\n", ""), "entry 1 has no data, nor has the top"),
        (ENTRY.replace("knn", "knnn"), "has task 'knnn'; known: ade20k"),
        (ENTRY + "  - name: n\n", "two runs called 'n/m'"),
        (ENTRY + "    matrix: {k: []}\n", "matrix k must list"),
        (ENTRY + "    matrix: {k: [{a: 1}]}\n", "matrix k must list"),
        (ENTRY + "    matrix: {k: 5}\n", "matrix k must list words"),
        ("matrix: {k: 5}\n" + ENTRY, "entry 1: matrix k must list words"),
        (ENTRY + "    overrides: [k5]\n", "'k5' is not of the form a.b=value"),
        (ENTRY + "    processes: 0\n", "0 processes; give 1 to 1,024"),
        (ENTRY + f"    processes: {'9' * 20}\n", "processes; give 1 to 1,024"),
        (ENTRY + "    processes: many\n", "entry 1"),
        (ENTRY.replace("c}", "--debug}"), "begins with a dash"),
        (ENTRY.replace("c}", "'${oc.env:HOME}'}"), "write the value itself"),
        (ENTRY.replace("data: d", "data: '${oc.env:HOME}'"), "write the value itself"),
        (ENTRY + "    recipe: ${entries}\n", "write the value itself"),
        (ENTRY + '    recipe: "a\\eb"\n', "write the value itself"),
        (ENTRY.replace("m: c", f"{'m' * 300}: c"), "too long a name"),
        (ENTRY + "    matrix: {a: [" + ",".join(map(str, range(101))) + "], "
         "b: [" + ",".join(map(str, range(100))) + "]}\n", "more than 10,000 runs"),
        (BOMB, "has a YAML alias"),
        ("a: !!python/object/apply:os.system [true]", "is no suite file"),
        ("[" * 5000, "is no suite file"),
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
        read_suite(tmp_path / "none.yaml", tmp_path)
    with pytest.raises(InputError, match="has no '='"):
        read(tmp_path, ENTRY, "data")
    with pytest.raises(InputError, match="has dta; known"):
        read(tmp_path, ENTRY, "dta=x")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "downstream" / "suites").iterdir()))
def test_ready_suites_name_files_that_are_there(path: Path) -> None:
    runs = read_suite(path, Path("out"))
    recipes = {run.arguments[run.arguments.index("--recipe") + 1] for run in runs}
    assert recipes
    assert all((REPOSITORY / recipe).is_file() for recipe in recipes)
    assert f"micl-bench suite run {path.relative_to(REPOSITORY)} " in path.read_text()


def test_ade20ks_grid_is_ibots() -> None:
    path = REPOSITORY / "downstream" / "suites" / "ade20k_learning_rates.yaml"
    rates = [float(value) for run in read_suite(path, Path("out")) for _, value in run.values]
    assert rates == [3e-5, 8e-5, 1e-4, 3e-4, 8e-4]
    (key,) = yaml.safe_load(path.read_text())["matrix"]
    assert key == "optim_wrapper.optimizer.lr"
