"""What a call would measure, so that a record that is there can be told from one of other inputs."""

import io
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from micl_bench import plugins
from micl_bench.checkpoints import digest_of
from micl_bench.config import resolve, to_dict
from micl_bench.data.store import HEADER_FILE
from micl_bench.files import digest_file, digest_json
from micl_bench.image_files import name_text
from micl_bench.record import Result
from micl_bench.tasks._request import Request

_DENSE = ("annotations", "images", "train2017", "val2017")
_DRAWN_OR_PUBLISHED = ("random:", "timm:", "public:")


def inputs_of(request: Request, module: ModuleType) -> dict[str, str]:
    """Digests of the resolved recipe and of the data folder's names and sizes, for records' details.

    Args:
        module: the task.

    Raises:
        InputError: a recipe that cannot be resolved.
    """
    kind = getattr(module, "RECIPE", None)
    if kind is None:
        return {"recipe": _config(request), "data": _listing(request.data, _DENSE)}
    recipe: Any = resolve(kind, request.recipe, request.overrides)
    content, labels = [to_dict(recipe)], Path(getattr(recipe, "labels", ""))
    if labels.is_file():
        content.append({"labels": digest_file(labels)})
    places = ["train", "val"]
    if names := getattr(recipe, "sets", ()):
        sets = [plugins.find("robustness", name).SET for name in names]
        places = [str(part) for one in sets for part in (*one.parts, one.clean.folder)]
        places += [str(one.folder.parent / "mappings") for one in sets if one.labels == "mappings"]
    return {"recipe": digest_json(content), "data": _listing(request.data, sorted(set(places)))}


def other_input(result: Result, request: Request, inputs: dict[str, str]) -> str:
    """Which of a call's inputs is not the one that a record was made of; empty if none."""
    if result.command != request.command:
        return "command"
    if not request.checkpoint.startswith(_DRAWN_OR_PUBLISHED):
        path = Path(request.checkpoint)
        if not path.exists() or digest_of(path) != result.checkpoint.digest:
            return "checkpoint"
    before = result.details.get("inputs", {})
    return next((name for name in inputs if inputs[name] != before.get(name)), "")


def _config(request: Request) -> str:
    """Of an mmengine config with all that it is based on; empty where none was given."""
    if request.recipe is None:
        return ""
    from micl_bench.openmmlab.configs import as_json, read
    from micl_bench.openmmlab.traces import quiet

    with quiet(io.StringIO()):
        return digest_json(as_json(read(request.recipe, request.overrides)))


def _listing(data: Path, places: tuple[str, ...] | list[str]) -> str:
    """Never refuses: what is missing or cannot be read, the task itself names."""
    sizes: dict[str, Any] = {}
    for place in places:
        seen = set()
        for folder, below, names in os.walk(data / place, followlinks=True):
            own = Path(folder).stat()
            if (own.st_dev, own.st_ino) in seen:
                # A link to a folder above leads round for ever.
                below.clear()
                continue
            seen.add((own.st_dev, own.st_ino))
            below.sort()
            start = os.path.relpath(folder, data)
            sizes |= {name_text(f"{start}/{name}"): _size(f"{folder}/{name}") for name in names}
        if (header := data / place / HEADER_FILE).is_file():
            # A store's files have the same sizes whatever is in them.
            sizes[f"{place}/"] = digest_file(header)
    return digest_json(sizes)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1
