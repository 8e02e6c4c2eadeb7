"""Tensors of a file beside its backbone, for those who ask for them by name: a decoder, a twin."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from micl_bench.checkpoints._rules import as_float32, count_tensors, named_tensors
from micl_bench.runtime.errors import InputError


def read_beside(
    content: dict[str, Any], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Find the tensors of a file whose names are asked for.

    Args:
        content: the whole file, as `read_safely` gives it.
        names: patterns of whole names, and the names to return, as `re.Match.expand` takes them; the
            first pattern that fits decides. A tensor in a table of the file is `TABLE.NAME`, without
            wrappers of training.

    Returns:
        the tensors, half precision as fp32, and the fates' names of what they are: tensors, or whole
        entries of the file.

    Raises:
        InputError: two tensors have one name, or one holds no floating-point numbers.
    """
    found: dict[str, Tensor] = {}
    taken: set[str] = set()
    tables = [
        key for key, value in content.items() if isinstance(key, str) and isinstance(value, dict)
    ]
    for table in ("", *tables) if names else ():
        own = []
        for plain, stored, tensor in named_tensors(content, table):
            target = _target(f"{table}.{plain}" if table else plain, names)
            if target is None:
                continue
            if target in found:
                raise InputError(f"two tensors of the file are both {target}")
            found[target], _ = as_float32(stored, tensor)
            own.append(stored)
        taken.update(own)
        if table and own and len(own) == count_tensors(content[table]):
            taken.add(table)
    return found, frozenset(taken)


def _target(name: str, names: Mapping[str, str]) -> str | None:
    matches = ((re.fullmatch(pattern, name), target) for pattern, target in names.items())
    return next((match.expand(target) for match, target in matches if match), None)
