"""A suite file as it stands: which evaluations, of which checkpoints, on which data, with which values.

YAML. What stands at the top holds for every entry that does not say otherwise:

    data_root: /data                          # where relative data folders lie; the current if left out
    seeds: [0, 1]
    prepare:                                  # data that the suite makes first
      digits: data embedded
      store: data pack --images made:digits/embedded --layout patch --size 32 --patch-size 4
    checkpoints:
      MAE: timm:vit_base_patch16_224.mae      # a file, timm:NAME, public:NAME, random:ARCH,
      MAE-L: {checkpoint: public:mae_vit_large, method: MAE}  # the same with another name in tables,
      theirs: {checkpoint: their.pth, arch: vit_small_patch16_224, format: dino, branch: student},
      three: {files: {0: a.pth, 1: b.pth, 2: c.pth}}  # seeds of one pre-training, as you state,
      MiCL:                                   # or one that the suite pre-trains
        recipe: embedded                      # a shipped recipe, or a file
        data: made:store
        overrides: [epochs=2]
        one_at_a_time: {objective.mask_ratio: [0.25, 0.75]}
    entries:
      - {name: knn, task: knn, recipe: embedded_knn, data: made:digits/embedded}
      - name: rates
        task: finetune
        data: made:digits/embedded
        matrix: {training.optim.base_lr: [1e-3, 4e-3]}
      - {name: robustness, task: robustness, data: made:digits, of: [rates]}

An entry gives one run for each checkpoint, seed and combination of the matrix's values; with `of`,
one for each classifier that those entries' runs make. `one_at_a_time` gives a checkpoint for each
value, beside the one without. A seed is that of the pre-training and of the evaluation; without
`seeds`, each recipe's own hold, and all of a checkpoint's `files` are taken. `strict: true`, at the
top, in an entry or in a checkpoint, refuses files of which something would have to be guessed.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import suite_file
from micl_bench.runtime.validate import built
from micl_bench.suites.entries import (
    Entry,
    Given,
    Made,
    SuiteFile,
    check_prepared,
    check_root,
    check_stands_alone,
    in_one_line,
)
from micl_bench.suites.text import UnreadableError, assigned, parsed

_LONGEST_FILE = 1 << 20
_DOTTED = ("matrix", "one_at_a_time")
_WHOLE_FILE = ("prepare", "data_root", "entries")


@in_one_line()
def read_file(given: str | Path, assignments: Sequence[str] = ()) -> SuiteFile:
    """Read a suite file.

    Args:
        given: path of the file, or the name of a suite that is shipped.
        assignments: `key=value`, for what stands at the file's top.

    Raises:
        InputError: no such file, or one that is not as described above.
    """
    path = suite_file(given)
    content = _read(path, assignments)
    shared = {field.name for field in dataclasses.fields(Entry)} - {"name", "of"}
    _require_keys(content, shared | set(_WHOLE_FILE), f"{path}")
    prepare, data_root, entries = (content.pop(key, None) for key in _WHOLE_FILE)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} must have `entries`, a list with one or more of them")
    with in_one_line(f"{path}"):
        prepared, root = check_prepared(prepare or {}), check_root(data_root or "")
    return SuiteFile(
        path=path,
        prepare=prepared,
        data_root=root,
        entries=[
            _entry(raw, content, f"{path}: $.entries[{number}]")
            for number, raw in enumerate(entries)
        ],
    )


def _read(path: Path, assignments: Sequence[str]) -> dict[str, Any]:
    for assignment in assignments:
        if "=" not in assignment:
            raise InputError(f"--set {assignment!r} has no '='; write --set key=value")
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise InputError(f"{path} is larger than {_LONGEST_FILE:,} bytes: no suite file")
        content = parsed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no suite file: it is not UTF-8 text") from error
    except UnreadableError as error:
        raise InputError(f"{path} is no suite file: {error}") from error
    if not isinstance(content, dict | None):
        raise InputError(f"{path} is no suite file: it must be a mapping with `entries`")
    content = content or {}
    for assignment in assignments:
        try:
            assigned(content, assignment, _DOTTED)
        except UnreadableError as error:
            raise InputError(f"--set {assignment}: {error}") from error
    with in_one_line(f"{path}"):
        check_stands_alone(content)
    return content


def _entry(raw: Any, shared: dict[str, Any], place: str) -> Entry:
    own = built(dict[str, Any], raw, place)
    if "of" in own:
        # Its checkpoints, and their seeds, are those of the entries that it names.
        shared = {k: v for k, v in shared.items() if k not in ("checkpoints", "methods", "seeds")}
    entry = built(Entry, {**shared, **own}, place)
    for name, checkpoint in entry.checkpoints.items():
        where = f"{place}.checkpoints.{name}"
        entry.checkpoints[name] = _checkpoint(checkpoint, entry, where)
    return entry


def _checkpoint(raw: Any, entry: Entry, place: str) -> Given | Made:
    if isinstance(raw, dict) and not {"checkpoint", "files"} & raw.keys():
        return built(Made, {"processes": entry.processes, **raw}, place)
    content = raw if isinstance(raw, dict) else {"checkpoint": raw}
    return built(Given, {"strict": entry.strict, **content}, place)


def _require_keys(content: dict[Any, Any], known: set[str], place: str) -> None:
    if unknown := [str(key) for key in content if key not in known]:
        raise InputError(f"{place} has {', '.join(unknown)}; known: {', '.join(sorted(known))}")
