"""Everything from Python: the same numbers as from the command line, and tables of them."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
import torchvision
from sklearn.neighbors import KNeighborsClassifier
from support import REPOSITORY, Run

import micl_bench
from micl_bench.data.folder import open_folder, to_tensor
from micl_bench.records.result import read_result

ARCH = "vit_demo_patch4_32"
K = {"overrides": ["k=5"]}
KNN = {"recipe": "embedded_knn", **K}


@pytest.fixture(scope="module")
def two_records(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """k-NN of two networks, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("results")
    for name, pool in (("cls", []), ("other", ["seed=1"])):
        micl_bench.evaluate(
            *("knn", f"random:{ARCH}"),
            data=few_digits,
            recipe="embedded_knn",
            out=folder / name,
            overrides=["k=5", *pool],
            method=name,
        )
    return folder


@pytest.fixture
def typed_command(micl_bench: Run) -> Run:
    """The fixture of the command line, whose name the package has here."""
    return micl_bench


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, micl_bench; micl_bench.InputError; "
        "print(sorted({'torch', 'pandas', 'timm', 'sklearn', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_has_a_docstring_with_all_parts() -> None:
    for name in micl_bench.__all__:
        found = getattr(micl_bench, name)
        if name == "report":
            found = type(found).__call__
        if name in ("__version__", "InputError"):
            continue
        assert found.__doc__, name
        if not name.startswith("load_") or name == "load_results":
            for part in ("Args:", "Raises:", "Example:"):
                assert part in found.__doc__, (name, part)


def test_an_evaluation_is_that_of_the_command_line(
    typed_command: Run, few_digits: Path, tmp_path: Path
) -> None:
    done = typed_command(
        *("eval", "knn", "--checkpoint", f"random:{ARCH}", "--data", few_digits, "--out"),
        *(tmp_path / "typed", "--recipe", "embedded_knn", "--set", "k=5"),
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "typed").glob("knn-*.json")
    typed = read_result(path)
    (called,) = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, **KNN)
    for field in ("metrics", "fingerprint", "protocol", "data", "checkpoint", "recipe_digest"):
        assert getattr(called, field) == getattr(typed, field), field
    kept = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, out=tmp_path / "x", **KNN)
    assert kept[0].command == (
        f"micl-bench eval knn --checkpoint random:{ARCH} --data {few_digits} --out {tmp_path}/x "
        "--recipe embedded_knn --set k=5"
    )
    again = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, out=tmp_path / "x", **KNN)
    assert again == kept


def test_bad_calls_are_one_line(few_digits: Path, tmp_path: Path) -> None:
    for task, more, message in (
        ("nothing", {}, "no tasks entry is called 'nothing'; known: "),
        ("knn", {"method": "a\nb"}, "one line of at most 100"),
        ("knn", {"pretrain_name": "A"}, "say one thing together"),
        ("knn", {"recipe": "embedded_nn"}, "near it: embedded_knn"),
        ("knn", {"overrides": ["kk=1"]}, "unknown recipe key"),
    ):
        with pytest.raises(micl_bench.InputError, match=message):
            micl_bench.evaluate(task, f"random:{ARCH}", data=few_digits, out=tmp_path, **more)
    with pytest.raises(micl_bench.InputError, match="no recipe file at embeded"):
        micl_bench.pretrain("embeded", data=few_digits, out=tmp_path)
    with pytest.raises(micl_bench.InputError, match="no results folder at"):
        micl_bench.load_results(tmp_path / "nowhere")


def test_results_are_one_long_table(two_records: Path) -> None:
    table = micl_bench.load_results(two_records)
    records = [read_result(Path(path)) for path in dict.fromkeys(table["record"])]
    assert [one.method for one in records] == ["cls", "other"]
    assert len(table) == sum(len(one.metrics) for one in records)
    contract = "task protocol fingerprint method arch data split seed metric value low high unit"
    assert {*contract.split(), "better", "record"} <= set(table.columns)
    row = table[(table["metric"] == "top1") & (table["method"] == "other")].iloc[0]
    number = records[1].metrics["top1"]
    assert (row["value"], row["low"], row["high"]) == (number.value, number.low, number.high)
    assert (row["unit"], row["better"], row["seed"]) == ("%", "higher", 1)
    pivot = table.pivot_table(index="method", columns="metric", values="value")
    assert list(pivot.index) == ["cls", "other"]


def test_the_documented_session_makes_a_latex_table(
    two_records: Path, few_digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPOSITORY / "docs" / "python.md").read_text()
    first, code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    first = first.replace("work/results/micl/backbone.pt", f"random:{ARCH}")
    exec(
        first.replace("work/data/embedded", str(few_digits)).replace('_knn"', '_knn", **K'),
        {"K": K},
    )
    assert capsys.readouterr().out.endswith("%\n")
    assert len([line for line in code.splitlines() if line]) == 5
    exec(code.replace("work/results", str(two_records)), {})
    table = capsys.readouterr().out
    assert table.startswith("\\begin{tabular}")
    assert "other & " in table


def test_a_comparison_is_a_table(two_records: Path) -> None:
    table = micl_bench.compare(two_records / "cls", str(two_records / "other"))
    assert isinstance(table, pd.DataFrame)
    row = table[table["metric"] == "top1"].iloc[0]
    assert row["difference"] == pytest.approx(row["first_value"] - row["second_value"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["test"] == "McNemar"
    assert (row["first"], row["second"]) == (str(two_records / "cls"), str(two_records / "other"))


@pytest.mark.long
def test_a_report_is_made_by_a_call_however_often(two_records: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        page = micl_bench.report(two_records, tmp_path / name)
        assert page == tmp_path / name / "report.html"
        assert "k-NN" in page.read_text()


@pytest.mark.long
def test_a_pretraining_is_a_call_that_goes_on(few_digits: Path, tmp_path: Path) -> None:
    short = ["epochs=1", "batch_size=40", "knn_every_epochs=0"]
    options = {"data": few_digits, "out": tmp_path / "micl", "overrides": short}
    result = micl_bench.pretrain("embedded", **options)
    assert result.task == "pretrain"
    assert result.command.startswith("micl-bench pretrain embedded --data ")
    assert micl_bench.pretrain("embedded", **options) == result
    assert micl_bench.load_backbone(tmp_path / "micl" / "backbone.pt").embed_dim == 128


def small_resnet(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], **options)


class Tokens(torch.nn.Module):
    """Tokens (N, T, D) of the maps of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images).flatten(2).transpose(1, 2)


TASKS = (
    ("knn", ["k=5"]),
    ("linear", ["probe.epochs=2"]),
    ("logistic", ["c=[1.0]", "max_iter=20"]),
)


def test_a_vit_in_memory_gives_the_numbers_of_its_file(few_digits: Path, tmp_path: Path) -> None:
    vit = micl_bench.load_backbone(f"random:{ARCH}")
    torch.save(vit.state_dict(), tmp_path / "vit.pt")
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    vit.train()
    for task, sets in TASKS:
        options = {"data": few_digits, "recipe": f"embedded_{task}", "overrides": sets}
        (held,) = micl_bench.evaluate(task, vit, **options)
        (read,) = micl_bench.evaluate(task, tmp_path / "vit.pt", arch="heads=4", **options)
        assert held.values == read.values, task
        assert held.fingerprint == read.fingerprint
        assert held.arch == read.arch
        assert (held.checkpoint.format, read.checkpoint.format) == ("module", "timm")
    assert vit.training
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())


def test_a_timm_model_says_its_size_and_pixels_itself(few_digits: Path) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)
    (result,) = micl_bench.evaluate("knn", vit, data=few_digits, **KNN)
    assert result.checkpoint.normalisation == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    assert result.arch == "vit_tiny_patch16_224"
    assert not result.checkpoint.guesses


@pytest.mark.parametrize("make", [lambda: small_resnet(num_classes=10), Tokens])
def test_any_module_goes_through_knn_linear_and_logistic(
    make: Callable[[], torch.nn.Module], few_digits: Path, tmp_path: Path
) -> None:
    module = make()
    for task, sets in TASKS:
        options = {"data": few_digits, "recipe": f"embedded_{task}", "overrides": sets}
        (result,) = micl_bench.evaluate(task, module, img_size=32, out=tmp_path / task, **options)
        assert result.checkpoint.source == f"in memory: {type(module).__name__}"
        assert "of the pixels" in result.checkpoint.guesses[0]
        assert "module's" in result.protocol
        assert not (tmp_path / task / "classifier.pt").exists()
        again = micl_bench.evaluate(task, module, img_size=32, out=tmp_path / task, **options)
        assert again == [result]


def test_the_features_of_a_module_are_what_it_gives(few_digits: Path) -> None:
    """Against a k-NN of scikit-learn's on features that are computed here."""
    module = small_resnet(num_classes=24).eval()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    given = {"img_size": 32, "mean": mean, "std": std}
    sets = ["k=1", "ks=[1]"]
    (result,) = micl_bench.evaluate(
        "knn", module, data=few_digits, recipe="embedded_knn", overrides=sets, **given
    )
    features, labels = [], []
    for split in ("train", "val"):
        folder = open_folder(few_digits / split)
        images = torch.stack([to_tensor(folder.image(i)) for i in range(len(folder))]) / 255
        images = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.inference_mode():
            features.append(module(images).numpy())
        labels.append(folder.labels_N)
    knn = KNeighborsClassifier(1, metric="cosine").fit(features[0], labels[0])
    assert result.values["top1"] == pytest.approx(100 * knn.score(features[1], labels[1]))
    assert not result.checkpoint.guesses


def test_the_classifier_of_a_timm_model_is_left_out_of_its_features(few_digits: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10)
    whole = micl_bench.evaluate("knn", model, data=few_digits, img_size=32, **KNN)
    model.reset_classifier(0)
    bare = micl_bench.evaluate("knn", model, data=few_digits, img_size=32, **KNN)
    assert whole[0].values == bare[0].values


@pytest.mark.long
def test_a_module_with_logits_goes_through_robustness(embedded: Path) -> None:
    module = small_resnet(num_classes=10)
    found = micl_bench.evaluate(
        "robustness", module, img_size=32, data=embedded, recipe="embedded_robustness"
    )
    assert [one.data.name for one in found] == ["embedded-A", "embedded-R", "embedded-Sketch"]
    headless = small_resnet(num_classes=7)
    with pytest.raises(micl_bench.InputError, match="has 7 outputs"):
        micl_bench.evaluate(
            "robustness", headless, img_size=32, data=embedded, recipe="embedded_robustness"
        )


class Broken(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": images}


@pytest.mark.parametrize(
    ("task", "module", "more", "message"),
    [
        ("finetune", small_resnet, {"img_size": 32}, "finetune needs a ViT of timm's"),
        ("representation", small_resnet, {"img_size": 32}, "representation needs a ViT of timm's"),
        ("knn", small_resnet, {}, "no timm config\\); give img_size"),
        ("knn", Broken, {"img_size": 32}, r"Broken gives dict for 2 images; needed are features"),
        ("knn", torch.nn.Identity, {"img_size": 32}, r"gives \(2, 3, 32, 32\) for 2 images"),
        (
            "knn",
            lambda: torch.nn.Linear(3, 4),
            {"img_size": 32},
            r"takes no images of \(3, 32, 32\)",
        ),
        ("knn", small_resnet, {"img_size": 32, "mean": (0, 0, 0)}, "belong together"),
        (
            "knn",
            small_resnet,
            {"img_size": 32, "arch": "x"},
            "arch, layout, branch and pixels describe files",
        ),
        ("knn", lambda: f"random:{ARCH}", {"img_size": 32}, "describe a module in memory"),
        ("linear", Tokens, {"img_size": 32, "overrides": ["probe.readouts=[cls_4]"]}, "no 'cls_4'"),
    ],
)
def test_what_a_module_cannot_give_is_said_in_one_line(
    task: str, module: Callable[[], Any], more: dict[str, Any], message: str, few_digits: Path
) -> None:
    with pytest.raises(micl_bench.InputError, match=message) as caught:
        micl_bench.evaluate(task, module(), data=few_digits, **more)
    assert "\n" not in str(caught.value)


def test_dense_tasks_want_a_file(few_digits: Path) -> None:
    vit = micl_bench.load_backbone(f"random:{ARCH}")
    with pytest.raises(micl_bench.InputError, match="reads the weights from a file: save"):
        micl_bench.evaluate("ade20k", vit, data=few_digits, recipe="embedded_upernet")
