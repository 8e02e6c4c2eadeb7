"""Checkpoints as suite files give them: how they are read, and several files of one pre-training."""

from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Run, good

from micl_bench.backbone import init_mae_, named_arch
from micl_bench.records.store import read_results
from micl_bench.runtime.errors import InputError
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Run as Planned

ENTRY = "data: d\ncheckpoints: {m: %s}\nentries:\n  - {name: n, task: finetune}\n"
THREE = "{files: {0: a.pth, 1: b.pth, 2: c.pth}, arch: vit_demo_patch4_32, format: timm}"


def read(tmp_path: Path, text: str, *assignments: str) -> list[Planned]:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return expand(read_file(path, assignments))


def words(run: Planned) -> str:
    return " ".join(run.arguments(Path("out"))).partition(" --out")[0]


def test_how_a_checkpoint_is_read_reaches_its_command(tmp_path: Path) -> None:
    given = "{checkpoint: x.pth, arch: a16, format: dino, branch: student, pixels: clip, "
    given += "strict: true, method: D}"
    (run,) = read(tmp_path, ENTRY % given)
    assert words(run) == (
        "eval finetune --checkpoint x.pth --arch a16 --format dino --branch student "
        "--pixels clip --strict --data d --method D"
    )
    (plain,) = read(tmp_path, ENTRY % "x.pth")
    assert words(plain) == "eval finetune --checkpoint x.pth --data d --method m"
    assert plain.key != run.key


@pytest.mark.parametrize(
    ("text", "strict"),
    [
        ("strict: true\n" + ENTRY % "x.pth", True),
        (ENTRY.replace("name: n", "name: n, strict: true") % "x.pth", True),
        (ENTRY % "{checkpoint: x.pth, strict: true}", True),
        ("strict: true\n" + ENTRY % "{checkpoint: x.pth, strict: false}", False),
        ("strict: true\n" + ENTRY.replace("name: n", "name: n, strict: false") % "x.pth", False),
    ],
)
def test_strictness_is_the_innermost_that_says_so(tmp_path: Path, text: str, strict: bool) -> None:
    (run,) = read(tmp_path, text)
    assert ("--strict" in run.words) is strict


def test_files_of_seeds_are_a_run_each_and_stated(tmp_path: Path) -> None:
    text = ENTRY % THREE + "  - {name: r, task: robustness, of: [n]}\n"
    runs = read(tmp_path, text)
    tuned = [run for run in runs if run.task == "finetune"]
    assert [run.seed for run in tuned] == [0, 1, 2]
    assert [run.name for run in tuned] == ["n/m/seed=0", "n/m/seed=1", "n/m/seed=2"]
    assert words(tuned[1]) == (
        "eval finetune --checkpoint b.pth --arch vit_demo_patch4_32 --format timm "
        "--pretrain-name m --pretrain-seed 1 --data d --method m"
    )
    assert "seed=1" in str(tuned[1].folder)
    # Their classifiers say it themselves, and no evaluation is given a seed.
    hurt = [run for run in runs if run.task == "robustness"]
    assert len(hurt) == 3
    assert not any(word in run.words for run in hurt for word in ("--pretrain-seed", "--set"))


def test_two_seeds_of_the_same_content_are_refused(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"y"), ("c", b"x")):
        (tmp_path / f"{name}.pth").write_bytes(content)
    files = {seed: str(tmp_path / f"{name}.pth") for seed, name in enumerate("abc")}
    with pytest.raises(InputError, match="the same content for seeds 0 and 2"):
        read(tmp_path, ENTRY % f"{{files: {files}}}")
    files.pop(2)
    assert len(read(tmp_path, ENTRY % f"{{files: {files}}}")) == 2


def test_seeds_choose_among_files_and_are_those_of_the_evaluation_too(tmp_path: Path) -> None:
    runs = read(tmp_path, ENTRY % THREE, "seeds=[2,0]")
    assert [(run.seed, "c.pth" in words(run)) for run in runs] == [(2, True), (0, False)]
    assert words(runs[0]).endswith("--pretrain-seed 2 --data d --set seed=2 --method m")
    with pytest.raises(InputError, match="'m' has no file of seed 5; its files: 0, 1, 2"):
        read(tmp_path, ENTRY % THREE, "seeds=[5]")


def test_a_task_that_draws_nothing_measures_each_file_once(tmp_path: Path) -> None:
    runs = read(tmp_path, (ENTRY % THREE).replace("finetune", "knn"), "seeds=[0,1]")
    assert [run.seed for run in runs] == [0, 1]


def test_a_name_given_by_the_suite_is_the_pretrainings_own(tmp_path: Path) -> None:
    made = f"{{recipe: {REPOSITORY}/pretrain/embedded.py, data: d}}"
    run, _ = read(tmp_path, (ENTRY % made).replace("{m:", "{MiCL-75:"))
    assert words(run).endswith("--data d --method MiCL-75")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{checkpoint: x, files: {0: a}}", "give a checkpoint, or files"),
        ("{files: {}}", "give a checkpoint, or files"),
        ("{checkpoint: ''}", "give a checkpoint, or files"),
        ("{files: [a, b]}", "files is ['a', 'b']; needed: a mapping"),
        ("{files: {a: a.pth}}", "files has the seed 'a'"),
        ("{files: {-1: a.pth}}", "files has the seed '-1'"),
        ("{files: {1.5: a.pth}}", "files has the seed '1.5'"),
        ("{files: {99999999999999999999: a.pth}}", "files has the seed '99999999999999999999'"),
        ("{files: {0: a.pth, 00: b.pth}}", "files has a seed twice"),
        ("{files: {0: a.pth, 0: b.pth}}", "has the key '0' a second time"),
        ("{files: {0: a.pth, 1: a.pth}}", "files has one file for two seeds"),
        ("{files: {0: }}", "$.entries[0].checkpoints.m.files.0 is None; needed: a word"),
        ("{files: {0: [a]}}", "files.0 is ['a']; needed: a word"),
        ("{files: {0: 'random:vit_demo_patch4_32'}}", "takes no files, arch, format, branch"),
        ("{checkpoint: 'timm:vit_tiny_patch16_224', arch: x}", "takes no files, arch, format"),
        ("{checkpoint: x, format: dyno}", "has format 'dyno'; known: beit, dino"),
        ("{checkpoint: x, strict: 1}", "strict is 1; needed: true or false"),
        ("{checkpoint: x, strict: maybe}", "strict is 'maybe'; needed: true or false"),
        ("{checkpoint: x, arch: --debug}", "begins with a dash"),
        ("{checkpoint: x, branche: y}", "has branche; known: arch, branch, checkpoint, files"),
    ],
)
def test_a_checkpoint_that_cannot_be_is_refused(tmp_path: Path, given: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, ENTRY % given)
    assert message in str(caught.value)


SUITE = """
task: knn
data: {data}
recipe: {root}/downstream/embedded_knn.py
overrides: ['ks=[5]', k=5]
checkpoints:
  theirs: {{files: {{0: a.pth, 1: b.pth}}, arch: vit_demo_patch4_32}}
entries: [{{name: n}}]
"""


@pytest.mark.long
def test_files_of_a_suite_are_seeds_of_one_row(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        model = named_arch("vit_demo_patch4_32").build()
        init_mae_(model, generator=torch.Generator().manual_seed(seed))
        torch.save({"model": model.state_dict()}, tmp_path / f"{name}.pth")
    (tmp_path / "s.yaml").write_text(SUITE.format(data=few_digits, root=REPOSITORY))
    good(micl_bench("suite", "run", "s.yaml", "--out", "store"))
    results = read_results(tmp_path / "store")
    assert sorted((r.checkpoint.origin[0].seed, r.method) for r in results) == [
        (0, "theirs"),
        (1, "theirs"),
    ]
    assert all(r.checkpoint.origin[0].stated for r in results)
