"""Small checkpoints with something wrong in them, in any number, each a function of its seed.

`mutant(folder, seed)` writes one and returns its path: bytes flipped, cut or doubled; tensors of other
names, shapes and kinds of number; tables within tables; options and configurations of nonsense.
"""

import json
import random
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layouts import LAYOUTS
from layouts_foreign import FOREIGN
from safetensors.torch import save_file
from torch import Tensor

_MOST_NUMBERS = 1 << 24
_NAMES = [name for name in (*LAYOUTS, *FOREIGN) if name != "dinov3"]
_JUNK: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None,
    lambda _: [],
    lambda _: "x" * 10_000,
    lambda _: float("nan"),
    lambda _: -1,
    lambda _: 1 << 200,
    lambda _: {"a": {"b": {"c": [1, 2, (3,)]}}},
    lambda _: Namespace(num_heads="many", mean=[1], img_size=[3, -1, 0]),
    lambda _: torch.zeros(0),
    lambda _: torch.tensor(1.0),
    lambda _: torch.zeros(2, 2, dtype=torch.int64),
    lambda _: torch.full((3,), float("inf")),
    lambda dice: torch.zeros([dice.choice((0, 1, 3)) for _ in range(dice.randrange(7))]),
    lambda _: torch.eye(2).to_sparse(),
    lambda _: torch.zeros(1).expand(1 << 30),
)


def mutant(folder: Path, seed: int, sources: dict[str, Path]) -> Path:
    """Write one; `sources` keeps the whole files that are mutated, and starts empty."""
    dice = random.Random(seed)
    name = dice.choice(_NAMES)
    if name not in sources:
        place = folder / f"whole-{name}"
        place.mkdir()
        sources[name] = (LAYOUTS | FOREIGN)[name](place)
    whole = sources[name]
    path = folder / f"{seed}-{whole.name}"
    if whole.is_dir():
        return _folder(whole, path, dice)
    if dice.random() < 0.4:
        path.write_bytes(_bytes(bytearray(whole.read_bytes()), dice))
        return path
    content = _loaded(whole)
    for _ in range(dice.randrange(1, 4)):
        content = _changed(content, dice)
    if whole.suffix == ".safetensors":
        tensors = {key: one for key, one in content.items() if isinstance(one, Tensor)}
        try:
            save_file({str(key): one.contiguous() for key, one in tensors.items()}, path)
        except (RuntimeError, ValueError):
            path.write_bytes(b"")
        return path
    try:
        torch.save(content, path, _use_new_zipfile_serialization=dice.random() < 0.8)
    except (NotImplementedError, RuntimeError):
        path.write_bytes(b"\x80\x02")
    return path


def _loaded(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    return dict(torch.load(path, weights_only=False))


def _bytes(content: bytearray, dice: random.Random) -> bytes:
    way = dice.randrange(5)
    if way == 0:
        return bytes(content[: dice.randrange(len(content))])
    if way == 1:
        place = dice.randrange(len(content))
        return bytes(content[:place] + content[place : place + 1000] * 2 + content[place:])
    if way == 2:
        return bytes(content[dice.randrange(1, 64) :])
    # The beginning and the end hold what says what the rest is.
    ends = [*range(min(2000, len(content))), *range(max(0, len(content) - 4000), len(content))]
    for _ in range(1 if way == 3 else 40):
        place = dice.choice(ends) if dice.random() < 0.8 else dice.randrange(len(content))
        content[place] ^= 1 << dice.randrange(8)
    return bytes(content)


def _changed(table: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One thing of a table is another, at any depth."""
    inner = [key for key, value in table.items() if isinstance(value, dict) and value]
    if inner and dice.random() < 0.8:
        key = dice.choice(inner)
        return {**table, key: _changed(dict(table[key]), dice)}
    found, keys = dict(table), list(table)
    if not keys:
        return {"a": dice.choice(_JUNK)(dice)}
    key, other = dice.choice(keys), dice.choice(keys)
    way = dice.randrange(9)
    is_tensor = _is_small_and_strided(found[key])
    if way == 0:
        found.pop(key)
    elif way == 1:
        found[key], found[other] = found[other], found[key]
    elif way == 2:
        found[key] = dice.choice(_JUNK)(dice)
    elif way == 3 and is_tensor:
        kinds = (torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64)
        found[key] = found[key].to(dice.choice(kinds))
    elif way == 4 and is_tensor and found[key].ndim:
        found[key] = found[key][: dice.randrange(found[key].shape[0] + 1)].clone()
    elif way == 5 and is_tensor:
        found[key] = found[key].reshape(-1) if dice.random() < 0.5 else found[key][None]
    elif way == 6:
        found[f"{dice.choice(('module.', 'model.', '_orig_mod.', 'x.'))}{key}"] = found.pop(key)
    elif way == 7:
        found = {dice.choice(("model", "state_dict", "teacher", "module", "x")): found}
    else:
        options = (
            "args",
            "config",
            "hyper_parameters",
            "arch",
            "micl_bench",
            "meta",
            "mean",
            "micl_bench_about",
        )
        found[dice.choice(options)] = dice.choice(_JUNK)(dice)
    return found


def _is_small_and_strided(value: object) -> bool:
    """Return whether a tensor can be cut and copied: no sparse one, none of gigabytes."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.numel() < _MOST_NUMBERS
    )


def _folder(whole: Path, path: Path, dice: random.Random) -> Path:
    shutil.copytree(whole, path)
    chosen = dice.choice(sorted(path.iterdir()))
    if chosen.suffix == ".json" and dice.random() < 0.7:
        content = json.loads(chosen.read_text())
        key = dice.choice(list(content))
        values: tuple[Any, ...] = (None, -1, "x", [], {}, 1e300, [[]], "\ud800", 10**30)
        content[key] = dice.choice(values)
        chosen.write_text(json.dumps(content))
    elif dice.random() < 0.2:
        chosen.unlink()
    else:
        chosen.write_bytes(_bytes(bytearray(chosen.read_bytes()), dice))
    return path
