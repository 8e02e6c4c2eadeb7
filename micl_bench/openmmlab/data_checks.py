"""Everything about a config's data that would fail a run, or make its number wrong, before it begins.

`eval ade20k|coco` and `doctor --recipe` check the same here, cheapest first; a check is left out where
an earlier one, on which it rests, has found something:

1. classes: named, the same in the same order for training and validation, as many as the heads have;
2. COCO's files: their form, and a category for every class, by its name;
3. image files: validation images and masks are decoded, of training images the headers are read;
4. the truth of the validation set, evaluated against itself (`truth`).
"""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from micl_bench.data.coco import CocoFile, read_coco
from micl_bench.data.coco_checks import check_annotations, missing_classes, other_categories
from micl_bench.data.faults import Fault, first
from micl_bench.openmmlab.configs import dicts
from micl_bench.openmmlab.data_files import check_coco_images, check_masks, not_read
from micl_bench.openmmlab.data_sets import (
    Part,
    check_heads,
    check_same_classes,
    in_scope,
    parts,
)
from micl_bench.openmmlab.isolation import blaming, no_trace, quiet
from micl_bench.openmmlab.truth import measure_truth
from micl_bench.runtime.distributed import from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import Progress, printable, say
from micl_bench.runtime.validate import read_json
from micl_bench.runtime.wording import plural


@dataclasses.dataclass
class Checked:
    """The findings on the data of a config."""

    faults: list[Fault] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    """By `train_dataloader` and `val_dataloader`: a line on the files there that are not read."""
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    """Number of images, by the same names."""
    truth: dict[str, float] = dataclasses.field(default_factory=dict)
    """The metrics of the truth itself, in percent."""

    @property
    def failed(self) -> bool:
        """True where a run would be refused."""
        return any(fault.fatal for fault in self.faults)

    def leave_out(self, loader: str, line: str) -> None:
        """Add a line on files that are not read."""
        before = self.left_out.get(loader)
        self.left_out[loader] = f"{before}; {line}" if before else line

    def remember(self, path: Path, inputs: str) -> None:
        """Write, on the first process, that data and config of this digest passed the checks."""
        if rank() == 0:
            passed = _Passed(
                inputs=inputs, faults=self.faults, left_out=self.left_out, truth=self.truth
            )
            atomic_write(path, json.dumps(dataclasses.asdict(passed)).encode())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Passed:
    """The part of `Checked` that a run needs, as its folder remembers it."""

    inputs: str
    faults: list[Fault]
    left_out: dict[str, str]
    truth: dict[str, float]


def require_sound(config: Config, name: str, *, remembered: Path, inputs: str) -> Checked:
    """Check on the first of several processes, and let the others know; `name` is the config file's.

    Data that passed before, as `Checked.remember` wrote for the same `inputs` (the digest of code,
    config and data: annotations by content, images by name and size), are not checked again.

    Raises:
        InputError: the data are not fit for the config; the first fault, in one line.
    """
    found: Checked | str = ""
    if rank() == 0:
        try:
            with blaming(name, "cannot be used"):
                found = _passed_before(remembered, inputs) or check(config)
        # The others wait for an answer.
        except (InputError, OSError) as error:
            found = str(error)
    found = from_first(found)
    if isinstance(found, str):
        raise InputError(found)
    for fault in sorted(found.faults, key=lambda one: not one.fatal):
        if fault.fatal:
            raise InputError(f"{fault.found}; {fault.fix}")
        say(printable(f"{fault.found}; {fault.fix}"))
    for line in found.left_out.values():
        say(printable(line))
    return found


def _passed_before(path: Path, inputs: str) -> Checked | None:
    if not path.is_file():
        return None
    try:
        passed = read_json(path, _Passed)
    except InputError:
        return None
    if passed.inputs != inputs:
        return None
    say(
        "annotations, and images' names and sizes, are those that passed the checks before; they are "
        "not checked again"
    )
    return Checked(faults=passed.faults, left_out=passed.left_out, truth=passed.truth)


def check(config: Config) -> Checked:
    """Make all checks, with their progress on standard error; returns their findings.

    Raises:
        InputError: the config itself is not fit for any data.
    """
    found, terminal = Checked(), sys.stderr
    # The libraries build what the config asks for without their output.
    with no_trace(), in_scope(config):
        with quiet(io.StringIO()):
            sets = _classes(config)
            files, found.faults = _coco_files(config, sets, found)
            if not found.failed:
                found.faults += _build(sets, found)
        if found.failed:
            return found
        total = sum(len(part.data) * (1 + part.evaluated) for part in sets)
        with Progress("checking the data", total=total) as progress, quiet(io.StringIO()):

            def on_read() -> None:
                with contextlib.redirect_stderr(terminal):
                    progress.step()

            for part in sets:
                if part.is_coco:
                    file = files[Path(part.data.ann_file)]
                    found.faults += check_coco_images(part, file, on_read)
                else:
                    found.faults += check_masks(part, config, on_read)
                if line := not_read(part, files):
                    found.leave_out(part.loader, line)
            if not found.failed:
                found.truth, faults = measure_truth(config, on_read=on_read)
                found.faults += [_of("the validation set", fault) for fault in faults]
    return found


def _classes(config: Config) -> list[Part]:
    """The data sets of a known kind, whose classes must fit one another, and the heads."""
    sets = [one for one in parts(config) if one.is_coco or one.is_a("BaseSegDataset")]
    for part in sets:
        _check_subset(part)
    for part in sets:
        last = sets[-1]
        check_same_classes(part.classes, part.name, last.classes, last.name)
        ours, theirs = (getattr(one.data, "reduce_zero_label", None) for one in (part, last))
        if ours != theirs:
            raise InputError(
                f"reduce_zero_label is {ours} for {part.name} and {theirs} for {last.name}: labels "
                "would be shifted by one against each other; set both alike"
            )
    if sets:
        check_heads(config.model, sets[-1].classes)
    return sets


def _check_subset(part: Part) -> None:
    """mmsegmentation finds the classes of a data set that it knows by their names in its own list."""
    own = getattr(part.kind, "METAINFO", {}).get("classes")
    asked = (part.config.get("metainfo") or {}).get("classes")
    if not part.is_a("BaseSegDataset") or not own or not isinstance(asked, list | tuple):
        return
    if unknown := [str(name) for name in asked if name not in own]:
        raise InputError(
            f"{part.name} is a {part.kind.__name__}, whose masks are numbered by its own {len(own)} "
            f"classes; {first(unknown)} is none of them. For masks of other classes set "
            "type='BaseSegDataset'"
        )


def _coco_files(
    config: Config, sets: list[Part], found: Checked
) -> tuple[dict[Path, CocoFile], list[Fault]]:
    """The annotation files of data sets and metrics, and their faults."""
    # For each file its uses: its data set's loader, whether it is measured on, whether masks count.
    asked: dict[Path, list[tuple[str, bool, bool]]] = {}
    classes: tuple[str, ...] = ()
    for part in sets:
        if part.is_coco:
            classes = part.classes
            use = (part.loader, part.evaluated, part.masks)
            asked.setdefault(Path(part.data.ann_file), []).append(use)
    for metric in dicts(config.val_evaluator) if classes else ():
        if metric.get("ann_file"):
            use = ("val_dataloader", True, "segm" in (metric.get("metric") or ()))
            asked.setdefault(Path(metric["ann_file"]), []).append(use)
    files, faults = dict[Path, CocoFile](), list[Fault]()
    for file, uses in asked.items():
        read = read_coco(file)
        if isinstance(read, Fault):
            faults.append(read)
            continue
        files[file] = read
        loaders, evaluated, masks = zip(*uses, strict=True)
        found_in = check_annotations(read, evaluated=any(evaluated), masks=any(masks))
        faults += [_of(str(file), fault) for fault in found_in]
        if missing := missing_classes(read, classes):
            kind = plural(len(missing), "category", "categories")
            names = first(list(read.categories.values()))
            faults.append(
                Fault(
                    f"{file} has no {kind} {first([repr(name) for name in missing])}, which the "
                    f"config names among its {len(classes)} classes; its {len(read.categories)} "
                    f"categories are {names}",
                    "add them to the file, or set metainfo.classes and num_classes in the config",
                )
            )
        elif others := other_categories(read, classes):
            said = first([f"{name} ({number:,})" for name, number in others.items()])
            found.leave_out(
                loaders[0], f"annotations of no class of the config in {file.name}: {said}"
            )
    return files, faults


def _build(sets: list[Part], found: Checked) -> Iterator[Fault]:
    """Read what the data sets list."""
    for part in sets:
        data = part.data
        data.full_init()
        found.images[part.loader] = found.images.get(part.loader, 0) + len(data)
        if not len(data):
            folder = data.data_prefix.get("img") or data.data_prefix.get("img_path")
            suffix = getattr(data, "img_suffix", "")
            kind = f" whose name ends in {suffix}" if suffix else " with a truth beside it"
            yield Fault(
                f"{type(data).__name__} finds no image{kind} in {folder}", "give another --data"
            )


def _of(subject: str, fault: Fault) -> Fault:
    return dataclasses.replace(fault, found=f"{subject}: {fault.found}")
