"""The page "Add a method", followed to the letter, cut short: its files, commands, results."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightly.loss import VICRegLoss
from support import REPOSITORY, Run, good, record_in

from micl_bench.objectives import find_objective
from micl_bench.runtime import plugins

PAGE = (REPOSITORY / "docs" / "add_a_method.md").read_text(encoding="utf-8")
# Each block of Python, and the file that the text right before it names.
FILES = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(BLOCK,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = BLOCK.replace("\\\n", " ").splitlines()
SHORT = {
    "pretrain": "--set epochs=1 --set batch_size=32 --set knn_every_epochs=1",
    "bench objectives": "--batch 4 --rounds 1",
    "eval knn": "--set k=5",
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files, in the folder that it begins with."""
    for name, code in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    export, _, folder = COMMANDS[0].partition("=")
    assert export == f"export {plugins.VARIABLE}"
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / folder))
    yield tmp_path
    sys.modules.pop("micl_bench.objectives.vicreg", None)


def test_all_blocks_are_files_or_commands() -> None:
    assert PAGE.count("```") == 2 * (len(FILES) + 1)
    assert [name for name, _ in FILES] == ["mine/objectives/vicreg.py", "vicreg_embedded.py"]


def test_its_loss_is_that_of_lightly(written: Path) -> None:
    objective: Any = find_objective("vicreg").Config().build()
    # Not all spread over more than 1, not all over less: the hinge is on both sides.
    rows = torch.randn(16, 2, 6, generator=torch.Generator().manual_seed(0))
    rows = rows * torch.linspace(0.2, 1.8, 6)
    output = objective.loss(rows)
    assert output.loss.item() == pytest.approx(VICRegLoss()(*rows.unbind(1)).item(), rel=1e-5)
    assert set(output.numbers) == set(objective.numbers)


@pytest.mark.long
def test_the_commands_lead_from_nothing_to_the_table(
    written: Path, micl_bench: Run, few_digits: Path
) -> None:
    (written / "work" / "data").mkdir(parents=True)
    (written / "work" / "data" / "embedded").symlink_to(few_digits)
    said = {}
    for line in COMMANDS[1:]:
        words = shlex.split(line)[1:]
        if words[:2] == ["data", "embedded"]:
            continue
        command = words[0] if words[0] == "pretrain" else " ".join(words[:2])
        done = good(micl_bench(*words, *SHORT.get(command, "").split(), cwd=written))
        said[command] = done.stdout + done.stderr
    assert "vicreg" in said["list objectives"]
    assert "2 views of 16 of 64 patches" in said["pretrain"]
    assert re.search(r"^vicreg +[\d.]+", said["bench objectives"], re.MULTILINE)
    record = record_in(written / "work" / "results" / "vicreg", "pretrain")
    assert record["method"] == "VICReg"
    assert len(record["details"]["deviations"]) == 2
    assert record_in(written / "work" / "results" / "vicreg-knn", "knn")["method"] == "VICReg"
    assert "VICReg" in (written / "work" / "report" / "report.html").read_text()
    assert (written / "work" / "vicreg.png").read_bytes().startswith(b"\x89PNG")
