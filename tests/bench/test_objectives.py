"""`bench objectives`: what it counts against closed forms; none ends it for the others."""

import json
from pathlib import Path

import pytest
from support import Run, good, refused

from micl_bench.backbone import named_arch
from micl_bench.objectives import find_objective
from micl_bench.objectives.micl import MiCL
from micl_bench.runtime import plugins

TWIN = """
import copy
import dataclasses
import torch
from torch import nn
from micl_bench.backbone import view_features
from micl_bench.objectives import ObjectiveConfig, Output, disjoint_views, Objective

class Twin(Objective):
    name = "Twin"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        pass

    def wants(self, arch):
        return disjoint_views(arch, num_views=2, mask_ratio=0.5)

    def added(self, vit):
        added = nn.Module()
        added.twin = copy.deepcopy(vit).requires_grad_(False)
        return added

    def encode(self, vit, added, seen):
        K = seen.keep_NVK.shape[2]
        ours = view_features(vit, seen.visible_NMP[:, :K], seen.keep_NVK[:, :1])
        # Without gradient by its frozen weights, and by the block.
        theirs = view_features(added.twin, seen.visible_NMP, seen.keep_NVK)
        with torch.no_grad():
            again = view_features(vit, seen.visible_NMP[:, K:], seen.keep_NVK[:, 1:])
        return ours - theirs - again

    def loss(self, rows):
        return Output(loss=rows.square().mean())

OBJECTIVE = Twin
"""
REFUSES = TWIN.replace("Twin", "Refuses").replace(
    "        return disjoint_views(arch, num_views=2, mask_ratio=0.5)",
    """        from micl_bench.runtime.errors import InputError
        raise InputError("needs patches of 16 pixels")""",
)
FAILS = TWIN.replace("Twin", "Fails").replace(
    "K = seen.keep_NVK.shape[2]", 'raise ValueError("two\\nlines")'
)


@pytest.fixture
def objectives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine" / "objectives"
    folder.mkdir(parents=True)
    for name, text in {
        "a_fails": FAILS,
        "a_refuses": REFUSES,
        "a_twin": TWIN,
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "mine"))


@pytest.mark.long
def test_each_is_measured_and_one_that_fails_says_why(
    objectives: None, micl_bench: Run, tmp_path: Path
) -> None:
    chosen = ("a_fails", "a_refuses", "a_twin", "droppos", "extrema", "simclr")
    words = [word for name in chosen for word in ("--objective", name)]
    words += ["--arch", "vit_demo_patch4_32", "--batch", "4", "--rounds", "1"]
    done = good(
        micl_bench("bench", "objectives", *words, "--precision", "fp32", "--json", "o.json")
    )
    content = json.loads((tmp_path / "o.json").read_text())
    assert content["benchmark"] == "objectives"
    assert content["settings"]["arch"] == "vit_demo_patch4_32"
    found = {result["name"]: result for result in content["results"]}
    # MiCL, which they are compared with, is always there, and the first.
    assert list(found) == ["micl", *chosen]
    assert found["a_refuses"] == {"name": "a_refuses", "error": "needs patches of 16 pixels"}
    assert found["a_fails"]["error"] == "ValueError: two lines"
    assert "a_fails was not measured: ValueError: two lines" in done.stdout
    assert "a_refuses was not measured: needs patches of 16 pixels" in done.stdout
    layouts = {name: found[name].get("layout") for name in ("micl", "simclr", "a_twin")}
    assert layouts == {"micl": "patch", "simclr": "image", "a_twin": "patch"}
    assert found["extrema"]["arch"] == "vit_demo_patch4_32_nocls"
    arch = named_arch("vit_demo_patch4_32")
    weights_mib = sum(p.numel() for p in arch.build().parameters()) * 4 / 2**20
    for name in ("micl", "a_twin", "droppos", "extrema", "simclr"):
        one = found[name]
        # Weights, their gradients and AdamW's two means; what is above them is small here.
        assert 3.5 * weights_mib < one["peak_memory_mib"] < 2000
        assert one["images_per_second"] > 0
        for figure, ratio in one["x_micl"].items():
            assert ratio == pytest.approx(one[figure] / found["micl"][figure], abs=1e-4)
        assert f"{one['images_per_second_with_data']:,.1f}" in done.stdout
    assert found["micl"]["flop_per_image"] == MiCL().flop_per_image(arch)
    assert found["micl"]["objective"]["mask_ratio"] == 0.9
    assert set(found["micl"]["x_micl"].values()) == {1.0}
    assert (found["droppos"]["method"], found["droppos"]["teacher_tokens"]) == ("DropPos", 65)
    # A view of 16 patches learns; two of the twin and one more do not.
    assert (found["a_twin"]["student_tokens"], found["a_twin"]["teacher_tokens"]) == (17, 51)
    assert "17 + 51" in done.stdout


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("micl", (20, 0)),
        ("mae", (50, 0)),
        ("simmim", (197, 0)),
        ("droppos", (50, 197)),
        ("extrema", (5 * 39, 196)),
        ("simclr", (2 * 197, 0)),
        ("dino", (2 * 197 + 8 * 37, 2 * 197)),
        ("moco_v3", (2 * 197, 2 * 197)),
    ],
)
def test_tokens_of_published_sizes(name: str, tokens: tuple[int, int]) -> None:
    objective = find_objective(name).Config().build()
    arch = "vit_small_patch16_224" if objective.class_token else "vit_small_patch16_224_nocls"
    assert objective.tokens_per_image(named_arch(arch)) == tokens


def test_tokens_are_a_mean_where_images_differ() -> None:
    objective = find_objective("ijepa").Config().build()
    student, teacher = objective.tokens_per_image(named_arch("vit_small_patch16_224_nocls"))
    # The context is a block of 0.85 to 1 of the image less four of 0.15 to 0.2, which overlap.
    assert 0.2 * 196 < student < 0.65 * 196
    assert teacher == 196


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--arch", "vit_x", "no architecture is called 'vit_x'"),
        ("--objective", "no_such", "no objectives entry is called 'no_such'"),
        ("--batch", "1", "batch is 1; needed: 2 or more"),
    ],
)
def test_settings_that_make_no_sense(micl_bench: Run, option: str, value: str, words: str) -> None:
    done = refused(micl_bench("bench", "objectives", option, value))
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
