"""The command of a record that comes from anywhere: what is run again, and what is refused."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import result

from micl_bench.report.audit.command_again import rerun_arguments
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import declared

KNN = "micl-bench eval knn --checkpoint a.pt --data d --out o"


def rerun(command: str, tmp_path: Path, **options: Any) -> list[str]:
    task = options.pop("task", "knn")
    ours = [tmp_path / "downstream", tmp_path / "pretrain"]
    values: dict[str, Any] = {"out": Path("/new"), "place": tmp_path, "ours": ours, **options}
    dense = declared(task).from_config
    return rerun_arguments(result(task=task, command=command), from_config=dense, **values)


def test_the_command_is_the_records_but_for_out(tmp_path: Path) -> None:
    found = rerun(
        "micl-bench --debug eval knn --checkpoint 'my file.pt' --data=d --set k=5 --set "
        "'ks=[5, 10]' --out o --recipe downstream/knn.py --method 'A; B'",
        tmp_path,
    )
    assert found == [
        *("eval", "knn", "--out", "/new", "--checkpoint", "my file.pt", "--data", "d"),
        *("--recipe", "downstream/knn.py", "--set", "k=5", "--set", "ks=[5, 10]"),
        *("--method", "A; B"),
    ]
    found = rerun("micl-bench pretrain pretrain/x.py --data d --out o", tmp_path, task="pretrain")
    assert found == ["pretrain", "pretrain/x.py", "--out", "/new", "--data", "d"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("rm -rf /", "it does not begin with micl-bench"),
        ("micl-bench", "only micl-bench eval and micl-bench pretrain"),
        ("", "it does not begin with micl-bench"),
        ("/tmp/micl-bench eval knn", "it does not begin with micl-bench"),
        ("env X=1 micl-bench eval knn", "it does not begin with micl-bench"),
        ("micl-bench suite run x.yaml --out o", "only micl-bench eval and micl-bench pretrain"),
        ("micl-bench report --results r --out /etc", "only micl-bench eval"),
        ("micl-bench slurm -- eval knn", "only micl-bench eval"),
        (f"{KNN}; rm x", "unrecognized arguments: rm x"),
        (f"{KNN} && rm x", "unrecognized arguments: && rm x"),
        (f"{KNN} --json /etc/passwd", "unrecognized arguments: --json"),
        (f"{KNN} -- x", "unrecognized arguments: "),
        (f"{KNN} --out /etc", "--out is there twice"),
        ("micl-bench eval knn --checkpoint a.pt --data d", "it has no --out"),
        ("micl-bench eval knn --data d --out", "argument --out: expected one argument"),
        ("micl-bench eval knn --data --out o", "argument --data: expected one argument"),
        ("micl-bench eval linear --data d --out o", "evaluates 'linear', the record is of knn"),
        ("micl-bench eval knn 'unclosed", "No closing quotation"),
        (f"{KNN} --help", "unrecognized arguments: --help"),
        (f"{KNN} --set {'x' * 20_000}", "longer than 20,000 letters"),
    ],
)
def test_anything_else_is_refused(command: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not run again") as refused:
        rerun(command, tmp_path)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


def test_what_is_stated_of_a_checkpoint_and_how_it_is_read_is_said_again(tmp_path: Path) -> None:
    stated = "--strict --pretrain-name 'a b' --pretrain-seed 3 --format dino --branch student"
    found = rerun(f"{KNN} {stated}", tmp_path)
    assert sorted(found[8:]) == sorted(shlex.split(stated))
    named = "micl-bench pretrain downstream/p.py --data d --out o --method 'MiCL-75'"
    looked_at = tmp_path / "p.py"
    assert rerun(named, tmp_path, task="pretrain", recipe=looked_at)[-2:] == ["--method", "MiCL-75"]
    for more in ("--strict=1", "--strict x", "--pretrain-seed"):
        with pytest.raises(InputError, match="is not run again"):
            rerun(f"{KNN} {more}", tmp_path)
    with pytest.raises(InputError, match="unrecognized arguments: --strict"):
        rerun(f"{named} --strict", tmp_path, task="pretrain", recipe=looked_at)


@pytest.mark.parametrize(
    "value",
    [
        "custom_hooks=[dict(type='os.system')]",
        "custom_hooks=[{'type':'os.system'}]",
        "model.type=os.system",
        "work_dir=/etc",
        "val_evaluator.outfile_prefix=x",
        "optim_wrapper.optimizer={'type':'x'}",
        "load_from=x.pth",
    ],
)
def test_a_config_of_a_stranger_takes_numbers_only(value: str, tmp_path: Path) -> None:
    command = "micl-bench eval coco --recipe downstream/c.py --checkpoint a.pt --data d --out o"
    with pytest.raises(InputError, match="puts more than numbers into a config"):
        rerun(f'{command} --set "{value}"', tmp_path, task="coco")
    found = rerun(
        f"{command} --set a.lr=1e-4 --set 'b=(0.1, 2)' --set c=False", tmp_path, task="coco"
    )
    assert found[-6:] == ["--set", "a.lr=1e-4", "--set", "b=(0.1, 2)", "--set", "c=False"]


@pytest.mark.parametrize("name", ["evil.py", "/tmp/evil.py", "downstream/../evil.py"])
def test_a_recipe_that_is_not_ours_has_to_be_named(name: str, tmp_path: Path) -> None:
    command = f"{KNN} --recipe {name}"
    with pytest.raises(InputError, match="which is code and none of this installation's own"):
        rerun(command, tmp_path)
    looked_at = tmp_path / "looked_at.py"
    assert rerun(command, tmp_path, recipe=looked_at)[-1] == str(looked_at)
    with pytest.raises(InputError, match="none of this installation's own"):
        rerun(f"micl-bench pretrain {name} --data d --out o", tmp_path, task="pretrain")
    with pytest.raises(InputError, match="made without a recipe; leave --recipe out"):
        rerun(KNN, tmp_path, recipe=looked_at)


def test_a_link_out_of_our_folder_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("")
    (tmp_path / "downstream").mkdir()
    (tmp_path / "downstream" / "knn.py").symlink_to(tmp_path / "evil.py")
    with pytest.raises(InputError, match="none of this installation's own"):
        rerun(f"{KNN} --recipe downstream/knn.py", tmp_path)


def test_a_shipped_name_is_run_as_it_is_unless_a_file_of_it_lies_there(tmp_path: Path) -> None:
    (tmp_path / "downstream").mkdir()
    (tmp_path / "downstream" / "x.py").write_text("ours")
    assert rerun(f"{KNN} --recipe x", tmp_path)[-1] == "x"
    for strange in ("y", "../downstream/x"):
        with pytest.raises(InputError, match="none of this installation's own"):
            rerun(f"{KNN} --recipe {strange}", tmp_path)
    (tmp_path / "x").write_text("theirs")
    with pytest.raises(InputError, match="none of this installation's own"):
        rerun(f"{KNN} --recipe x", tmp_path)


def test_a_recipe_of_another_checkout_is_run_as_ours(tmp_path: Path) -> None:
    own = tmp_path / "downstream" / "knn.py"
    own.parent.mkdir()
    own.write_text("ours")
    other = tmp_path / "clone" / "downstream" / "knn.py"
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    assert rerun(f"{KNN} --recipe {other}", tmp_path)[-1] == str(own)
    with pytest.raises(InputError, match="none of this installation's own"):
        rerun(f"{KNN} --recipe {other.parent}/other.py", tmp_path)
