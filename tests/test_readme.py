"""Every command in the README and in docs/ runs, cut short where it would take long."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, Run, documentation

from micl_bench.runtime.shipped import recipes

PAGES = documentation()
TEXT = "\n".join(PAGES.values())
# The commands of this page need its files: tests/test_add_a_method.py runs both.
ELSEWHERE = REPOSITORY / "docs" / "add_a_method.md"
COMMANDS = "\n".join(text for page, text in PAGES.items() if page != ELSEWHERE)
BLOCKS = re.findall(r"^```bash\n(.*?)^```", COMMANDS, re.DOTALL | re.MULTILINE)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
SMALL_VIT = (
    "arch=vit_demo_patch4_32",
    "pixels.img_size=32",
    "batch_size=40",
    "optim.warmup_epochs=0",
)

# What is cut short, by command and its shipped recipe; sizes and lengths only.
SHORT = {
    "pretrain embedded": ("epochs=1", "knn_every_epochs=0"),
    "pretrain imagenet_vit_s16_doc": (
        *(*SMALL_VIT, "epochs=1", "num_workers=0", "knn_k=5"),
        *("precision=fp32", "compile=false"),
    ),
    "eval knn embedded_knn": (),
    "eval knn": ("pixels.img_size=32",),
    "eval linear": ("pixels.img_size=32", "probe.epochs=1"),
    "eval finetune embedded_finetune": ("training.epochs=1",),
    "eval finetune imagenet_finetune_vit_s16": (
        *("pixels.img_size=32", "training.epochs=1", "training.batch_size=40"),
        *("precision=fp32", "compile=false", "num_workers=0"),
    ),
    "eval robustness embedded_robustness": (),
    "eval representation embedded_representation": (),
    "eval ade20k embedded_upernet": ("train_cfg.max_iters=2",),
    "eval coco embedded_mask_rcnn": ("train_cfg.max_iters=2",),
}
# The last value of an option counts.
SHORT_OPTIONS = {
    "bench loader": "--images 8 --batch 4 --rounds 1 --seconds 0.05",
    "bench dense": "--arch vit_demo_patch4_32 --size 32 --batch 1 --rounds 1",
    "bench objectives": "--objective droppos --arch vit_demo_patch4_32 --batch 4 --rounds 1",
    "bench step": "--arch vit_demo_patch4_32 --mask-ratio 0.5 --batch 4 --rounds 1 --steps 1",
}
# What the README's reader has and a test has not; and the sizes of a small ViT's packed store.
INSTEAD = {
    "224": "32",
    "16": "4",
    "timm:vit_base_patch16_224.mae": "random:vit_demo_patch4_32",
    "/data/imagenet": "few",
}


def shortened(line: str) -> list[str]:
    """A README command as the test runs it."""
    words = [INSTEAD.get(word, word) for word in shlex.split(line)[1:]]
    named = [word for word in words if word.endswith(".py") or word in recipes()]
    key = " ".join([*words[: 1 if words[0] == "pretrain" else 2], *named])
    sets = SHORT.get(key, ()) if words[0] in ("pretrain", "eval") else ()
    assert words[0] not in ("pretrain", "eval") or key in SHORT, f"{key}: how is it cut short?"
    options = SHORT_OPTIONS.get(" ".join(words[:2]), "").split()
    return words + options + [word for value in sets for word in ("--set", value)]


@pytest.mark.long
def test_the_commands_run_in_the_order_in_which_they_stand(
    micl_bench: Run, few_digits: Path, checkout: Path
) -> None:
    (checkout / "few").symlink_to(few_digits)
    commands = [line for line in LINES if line.startswith("micl-bench ")]
    assert len(commands) > 10
    for line in commands:
        if "/data/ADEChallengeData2016" in line or "/data/coco" in line:
            continue  # test_ade20k_configs.py, test_coco_configs.py and test_own_config.py run these
        done = micl_bench(*shortened(line), cwd=checkout)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (checkout / "work" / "report" / "report.html").exists()


def test_the_make_targets_exist() -> None:
    for target in {word for line in LINES for word in re.findall(r"^make (\w+)", line)}:
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, check=False
        )
        assert done.returncode == 0, target


def test_linked_files_exist() -> None:
    for page, text in PAGES.items():
        for name in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / name).is_file(), (page, name)


def test_each_block_opens_with_its_language_and_closes() -> None:
    for page, text in PAGES.items():
        fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
        assert all(fences[::2]), page
        assert not any(fences[1::2]), page
        assert len(fences) % 2 == 0, page


def test_the_readme_quotes_the_table_of_the_demo() -> None:
    def rows(page: Path) -> set[str]:
        block = re.search(r"^```text\ntask .*?^```", page.read_text(), re.DOTALL | re.MULTILINE)
        assert block is not None, page
        return {line for line in block[0].splitlines() if "embedded" in line}

    quoted, whole = rows(REPOSITORY / "README.md"), rows(REPOSITORY / "docs" / "demo.md")
    assert quoted
    assert quoted <= whole, quoted - whole


def test_the_readme_leads_to_every_page() -> None:
    assert {*PAGES} == {REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")}


def test_the_map_names_what_is_there() -> None:
    tree = TEXT.partition("```text\nmicl_bench/ ")[2].partition("```")[0]
    named = set(re.findall(r"([\w]+(?:\.py|/))", tree))
    package = REPOSITORY / "micl_bench"
    there = {f"{p.name}/" for p in package.iterdir() if p.is_dir() and p.name != "__pycache__"}
    there |= {p.name for p in package.glob("*.py") if p.stem[:2] != "__"}
    assert there <= named, there - named


@pytest.mark.parametrize(
    "code",
    [
        code
        for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
        if "tokens" in code
    ],
)
def test_the_python_examples_run(code: str) -> None:
    code = re.sub(r"work/\S+/backbone.pt", "random:vit_demo_patch4_32", code)
    code = "import torch\nimages = torch.zeros(1, 3, 384, 384)\n" + code
    code += "assert tokens.shape == (1, 1 + 96 * 96, 128), tokens.shape\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
