"""Files that do not say which pre-training they are of: what the user states of them, all the way."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import REPOSITORY, Run, good

from micl_bench.backbone import init_mae_, named_arch
from micl_bench.checkpoints import Statement, load_checkpoint, stated
from micl_bench.records.result import Result, read_result
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.report.frame.identity import network_of, seeds_of
from micl_bench.report.frame.lineage import pretraining_stage

ARCH = "vit_demo_patch4_32"
KNN = REPOSITORY / "downstream" / "embedded_knn.py"
FINETUNE = REPOSITORY / "downstream" / "embedded_finetune.py"
ROBUSTNESS = REPOSITORY / "downstream" / "embedded_robustness.py"


def foreign(path: Path, seed: int, *, depth: int = 4, **more: Any) -> Path:
    """A file of somebody else: tensors, and nothing on what made them but what `more` says."""
    model = dataclasses.replace(named_arch(ARCH), depth=depth).build()
    init_mae_(model, generator=torch.Generator().manual_seed(seed))
    torch.save({"model": model.state_dict(), **more}, path)
    return path


def evaluated(micl_bench: Run, out: Path, *words: object) -> Result:
    good(micl_bench("eval", *words, "--out", out))
    (path,) = out.glob("*-*.json")
    return read_result(path)


@pytest.mark.long
def test_stated_seeds_are_runs_of_one_pretraining_for_compare_and_report(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    results = []
    for number, (name, seed) in enumerate((n, s) for n in ("ours", "theirs") for s in (0, 1, 2)):
        file = foreign(tmp_path / f"{name}-{seed}.pth", number)
        words: list[object] = ["knn", "--checkpoint", file, "--arch", ARCH, "--data", few_digits]
        words += ["--recipe", KNN, "--set", "k=5", "--set", "ks=[5]"]
        words += ["--pretrain-name", name, "--pretrain-seed", seed]
        results.append(evaluated(micl_bench, tmp_path / "results" / name / str(seed), *words))
    for result in results:
        (stage,) = result.checkpoint.origin
        assert (stage.task, stage.stated, stage.method) == ("pretrain", True, result.method)
        assert pretraining_stage(result) is None
    assert [result.method for result in results] == ["ours"] * 3 + ["theirs"] * 3
    assert [result.checkpoint.origin[0].seed for result in results] == [0, 1, 2, 0, 1, 2]
    assert len({network_of(result) for result in results}) == 2
    assert len({seeds_of(result) for result in results[:3]}) == 3

    sources = [tmp_path / "results" / name for name in ("ours", "theirs")]
    compared = good(micl_bench("compare", *sources, "--json", tmp_path / "found.json"))
    assert compared.stdout.count("(3 runs of 3 checkpoints)") >= 2
    assert "stated by the user: its checkpoints are seeds of ours" in compared.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    top1 = next(one for one in found["comparisons"] if one["metric"] == "top1")
    assert sorted(top1["ours"]["values"]) == sorted(r.values["top1"] for r in results[:3])

    good(micl_bench("report", "--results", tmp_path / "results", "--out", tmp_path / "report"))
    page = (tmp_path / "report" / "report.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| ours", "| theirs"))]
    assert rows
    assert not any("weights" in row for row in rows)
    explained = micl_bench("explain", results[0].id, "--results", tmp_path / "results")
    assert "stated by the user" in explained.stdout


def test_networks_of_other_sizes_are_no_seeds_of_one_pretraining(tmp_path: Path) -> None:
    statement = Statement(name="ours", seed=0)
    stages = [
        stated(load_checkpoint(f), statement).content.origin[0]
        for f in (
            foreign(tmp_path / "a.pth", 0),
            foreign(tmp_path / "b.pth", 1),
            foreign(tmp_path / "deep.pth", 2, depth=2),
        )
    ]
    assert stages[0] == stages[1]
    assert stages[2].fingerprint != stages[0].fingerprint
    assert all(stage.stated for stage in stages)


@pytest.mark.long
def test_without_a_statement_compare_says_that_the_files_do_not_tell(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    for seed in (0, 1):
        file = foreign(tmp_path / f"{seed}.pth", seed)
        words = ["knn", "--checkpoint", file, "--arch", ARCH, "--data", few_digits]
        words += ["--recipe", KNN, "--method", "theirs", "--set", "k=5", "--set", "ks=[5]"]
        evaluated(micl_bench, tmp_path / "a" / str(seed), *words)
    contender, _ = read_contenders([tmp_path / "a", tmp_path / "a"])
    (note,) = (note for note in contender.notes if "seed" in note)
    assert "do not state that they differ in their seed alone" in note


@pytest.mark.long
def test_what_is_stated_reaches_the_classifier_and_what_is_measured_of_it(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path
) -> None:
    file = foreign(tmp_path / "a.pth", 0)
    words = ["finetune", "--checkpoint", file, "--arch", ARCH, "--data", few_digits]
    words += ["--recipe", FINETUNE, "--set", "training.epochs=1", "--set", "training.batch_size=20"]
    words += [
        "--set",
        "training.optim.warmup_epochs=0",
        "--pretrain-name",
        "a b",
        "--pretrain-seed",
        3,
    ]
    tuned = evaluated(micl_bench, tmp_path / "finetune", *words)
    assert [(s.task, s.stated, s.seed) for s in tuned.checkpoint.origin] == [("pretrain", True, 3)]
    assert tuned.method == "a b"
    classifier = tmp_path / "finetune" / "classifier.pt"
    stages = load_checkpoint(classifier).content.origin
    assert [(s.task, s.stated) for s in stages] == [("pretrain", True), ("finetune", False)]
    words = ["knn", "--checkpoint", classifier, "--data", few_digits, "--recipe", KNN]
    again = evaluated(micl_bench, tmp_path / "knn", *words, "--set", "k=5", "--set", "ks=[5]")
    assert again.checkpoint.origin == stages
    # Said again it is the same; said otherwise it is refused.
    for seed, code in ((3, 0), (4, 2)):
        more = ["--pretrain-name", "a b", "--pretrain-seed", seed, "--out", tmp_path / f"s{seed}"]
        done = micl_bench("eval", *words, "--set", "k=5", "--set", "ks=[5]", *more)
        assert done.returncode == code, done.stderr
    assert "under the statement that it is of 'a b', seed 3" in done.stderr


@pytest.mark.parametrize(
    ("checkpoint", "stated", "words"),
    [
        ("drawn", ("x", 1), "says itself that its weights were drawn with seed"),
        (
            "args",
            ("x", 1),
            "says itself that it was trained with seed 0, not with --pretrain-seed 1",
        ),
        ("config", ("x", 1), "says itself that it was trained with seed 0, not with"),
        ("plain", ("x", None), "give both"),
        ("plain", ("", 1), "give both"),
        ("plain", ("x", -1), "give a whole number from 0"),
        ("plain", ("x" * 101, 1), "is one line of 1 to 100 characters"),
        ("plain", ("a\nb", 1), "is one line of 1 to 100 characters"),
        ("plain", (" ", 1), "is one line of 1 to 100 characters"),
    ],
)
def test_a_statement_that_cannot_be_is_refused_in_one_line(
    micl_bench: Run, few_digits: Path, tmp_path: Path, checkpoint: str, stated: Any, words: str
) -> None:
    options = {"args": argparse.Namespace(seed=0), "config": {"seed": 0}}
    more = {checkpoint: options[checkpoint]} if checkpoint in options else {}
    source = f"random:{ARCH}"
    arch: list[str] = []
    if checkpoint != "drawn":
        source, arch = str(foreign(tmp_path / "a.pth", 0, **more)), ["--arch", ARCH]
    name, seed = stated
    statement = ["--pretrain-name", name] if name else []
    statement += [] if seed is None else ["--pretrain-seed", seed]
    out = tmp_path / "out"
    done = micl_bench("eval", "knn", "--checkpoint", source, *arch, "--data", few_digits,
                      "--recipe", KNN, *statement, "--out", out)  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert words in line
    assert not out.exists()
