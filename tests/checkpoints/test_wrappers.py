"""Wrappers around a network show in tensors' names, and are taken off in every layout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from layouts_foreign import FOREIGN
from layouts_parts import prefixed
from torch import Tensor

from micl_bench.checkpoints import load_checkpoint
from micl_bench.runtime.safe_reading.read import read_safely

WRAPPERS = ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "_forward_module.",
            "_forward_module.module.", "_fsdp_wrapped_module."]  # fmt: skip


def _wrapped(value: Any, prefix: str) -> Any:
    """Every table of tensors with names as a wrapper leaves them."""
    if not isinstance(value, dict):
        return value
    is_table = any(isinstance(one, Tensor) for one in value.values())
    found = {key: _wrapped(one, prefix) for key, one in value.items()}
    return prefixed(prefix, found) if is_table else found


WRAPPED = ("dino", "ibot", "moco_v3", "msn", "ijepa", "dinov2", "simmim", "simmim-fine_tuned", "beit",
           "beit-fine_tuned", "openmmlab", "openmmlab-timm", "lightly")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *((name, prefix) for name in WRAPPED for prefix in ("_orig_mod.", "module.")),
        *((name, prefix) for name in ("dino", "simmim") for prefix in WRAPPERS[2:]),
    ],
)
def test_wrappers_are_taken_off_in_every_layout(name: str, prefix: str, tmp_path: Path) -> None:
    path = FOREIGN[name](tmp_path)
    plain, content = load_checkpoint(path), read_safely(path)
    tables = {
        key: _wrapped(value, prefix) if key not in ("optimizer", "opt") else value
        for key, value in content.items()
    }
    if name == "msn":
        tables["prototypes"] = content["prototypes"]
    if any(isinstance(value, Tensor) for value in content.values()) and name != "msn":
        tables = prefixed(prefix, tables)
    torch.save(tables, tmp_path / "wrapped.pth")
    found = load_checkpoint(tmp_path / "wrapped.pth")
    assert found.info.format == plain.info.format
    assert found.content.state.keys() == plain.content.state.keys()
    same = [
        torch.equal(value, plain.content.state[key]) for key, value in found.content.state.items()
    ]
    assert all(same)
    # The mapping has the file's own names.
    assert any(fate.name.startswith(prefix) for fate in found.content.fates)
