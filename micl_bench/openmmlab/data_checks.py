"""Everything about a config's data that would fail a run, or make its number wrong, before it begins.

`eval ade20k|coco` and `doctor --recipe` ask the same here, cheapest first; what comes later is not asked
where something was found, as it rests on it:

1. classes: named, the same in the same order for training and validation, as many as the heads have;
2. COCO's files: their form, and a category for every class, by its name;
3. image files: validation images and masks are decoded, of training images the headers are read;
4. the truth of the validation set, evaluated against itself (`truth`).
"""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from mmengine.config import Config

from micl_bench.data.coco_checks import (
    check_annotations,
    missing_classes,
    opened,
    other_categories,
)
from micl_bench.data.coco_file import CocoFile
from micl_bench.data.faults import Fault, first
from micl_bench.openmmlab.build import blaming
from micl_bench.openmmlab.configs import dicts
from micl_bench.openmmlab.data_files import check_coco_images, check_masks, not_read
from micl_bench.openmmlab.data_sets import (
    Part,
    check_heads,
    check_same_classes,
    class_names,
    in_scope,
    is_a,
    is_coco,
    parts,
)
from micl_bench.openmmlab.isolation import no_trace, quiet
from micl_bench.openmmlab.truth import measure_truth
from micl_bench.runtime.distributed import from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress, printable, say


@dataclasses.dataclass
class Checked:
    """What was found."""

    faults: list[Fault] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    """By `train_dataloader` and `val_dataloader`: a line on what lies there and is not read."""
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    """By the same names."""
    truth: dict[str, float] = dataclasses.field(default_factory=dict)
    """The metrics of the truth itself, in percent."""

    @property
    def failed(self) -> bool:
        """Whether a run would be refused."""
        return any(fault.fatal for fault in self.faults)


def require_sound(config: Config, name: str) -> Checked:
    """Check on the first of several processes, and tell the others.

    Args:
        name: of the config's file.

    Raises:
        InputError: the data are not fit for the config; the first fault, in one line.
    """
    found: Checked | str = ""
    if rank() == 0:
        try:
            with blaming(name, "cannot be used"):
                found = check(config)
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


def check(config: Config) -> Checked:
    """All checks, with their progress on standard error.

    Raises:
        InputError: the config itself is not fit for any data.
    """
    with no_trace():
        return _Check(config).run()


class _Check:
    def __init__(self, config: Config) -> None:
        self._config, self._found, self._terminal = config, Checked(), sys.stderr
        self._files: dict[Path, CocoFile] = {}
        self._sets: list[tuple[Part, Any]] = []

    def run(self) -> Checked:
        found = self._found
        with self._silently():
            for stage in (self._classes, self._coco_files, self._build):
                found.faults += stage()
                if found.failed:
                    return found
        total = sum(len(data) * (1 + part.evaluated) for part, data in self._sets)
        with Progress("checking the data", total=total) as progress, self._silently():
            found.faults += self._image_files(self._told(progress))
            if not found.failed:
                truth = measure_truth(self._config, on_read=self._told(progress))
                found.faults += [_of("the validation set", fault) for fault in truth.faults]
                found.truth = truth.metrics
        return found

    @contextlib.contextmanager
    def _silently(self) -> Iterator[None]:
        """Where the libraries build what the config asks for, without their output."""
        with quiet(io.StringIO()), in_scope(self._config):
            yield

    def _told(self, progress: Progress) -> Callable[[], None]:
        def step() -> None:
            with redirect_stderr(self._terminal):
                progress.step()

        return step

    def _classes(self) -> Iterator[Fault]:
        """Of data sets whose files are not read yet."""
        known = [
            part for part in parts(self._config) if is_coco(part) or is_a(part, "BaseSegDataset")
        ]
        named = []
        for part in known:
            _check_subset(part)
            # mmengine reads a text as a file of names, and warns where there is none.
            data = part.built(lazy_init=True, pipeline=[])
            named.append((part, data, class_names(data, part.name)))
            self._sets.append((part, data))
        for part, data, classes in named:
            check_same_classes(classes, part.name, named[-1][2], named[-1][0].name)
            ours, theirs = (getattr(one, "reduce_zero_label", None) for one in (data, named[-1][1]))
            if ours != theirs:
                raise InputError(
                    f"reduce_zero_label is {ours} for {part.name} and {theirs} for {named[-1][0].name}: "
                    "labels would be shifted by one against each other; set both alike"
                )
        if named:
            check_heads(self._config.model, named[-1][2])
        return iter(())

    def _coco_files(self) -> Iterator[Fault]:
        asked: dict[Path, tuple[bool, bool, str]] = {}
        classes: tuple[str, ...] = ()
        for part, data in self._sets:
            if is_coco(part):
                classes = class_names(data, part.name)
                _ask(asked, Path(data.ann_file), part.evaluated, part.masks, part.loader)
        for metric in dicts(self._config.val_evaluator) if classes else ():
            if metric.get("ann_file"):
                masks = "segm" in (metric.get("metric") or ())
                _ask(asked, Path(metric["ann_file"]), True, masks, "val_dataloader")
        for file, (evaluated, masks, loader) in asked.items():
            read = opened(file)
            if isinstance(read, Fault):
                yield read
                continue
            self._files[file] = read
            for fault in check_annotations(read, evaluated=evaluated, masks=masks):
                yield _of(str(file), fault)
            if missing := missing_classes(read, classes):
                names = first([name for _, name in read.categories])
                kind = "category" if len(missing) == 1 else "categories"
                yield Fault(
                    f"{file} has no {kind} {first([repr(name) for name in missing])}, which the "
                    f"config names among its {len(classes)} classes; its {len(read.categories)} "
                    f"categories are {names}",
                    "add them to the file, or set metainfo.classes and num_classes in the config",
                )
            elif others := other_categories(read, classes):
                said = first([f"{name} ({number:,})" for name, number in others.items()])
                self._leave_out(
                    loader, f"annotations of no class of the config in {file.name}: {said}"
                )

    def _build(self) -> Iterator[Fault]:
        for part, data in self._sets:
            data.full_init()
            images = self._found.images
            images[part.loader] = images.get(part.loader, 0) + len(data)
            if not len(data):
                folder = data.data_prefix.get("img") or data.data_prefix.get("img_path")
                suffix = getattr(data, "img_suffix", "")
                kind = f" whose name ends in {suffix}" if suffix else " with a truth beside it"
                yield Fault(
                    f"{type(data).__name__} finds no image{kind} in {folder}", "give another --data"
                )

    def _image_files(self, on_read: Callable[[], None]) -> Iterator[Fault]:
        for part, data in self._sets:
            if is_coco(part):
                yield from check_coco_images(part, data, self._files[Path(data.ann_file)], on_read)
            else:
                yield from check_masks(part, data, self._config, on_read)
            if line := not_read(part, data, self._files):
                self._leave_out(part.loader, line)

    def _leave_out(self, loader: str, line: str) -> None:
        before = self._found.left_out.get(loader)
        self._found.left_out[loader] = f"{before}; {line}" if before else line


def _ask(
    asked: dict[Path, tuple[bool, bool, str]], file: Path, evaluated: bool, masks: bool, loader: str
) -> None:
    """Ask of a file what any of its uses needs."""
    before = asked.get(file, (False, False, loader))
    asked[file] = (before[0] or evaluated, before[1] or masks, before[2])


def _check_subset(part: Part) -> None:
    """mmsegmentation finds the classes of a data set that it knows by their names in its own list."""
    own = getattr(part.kind, "METAINFO", {}).get("classes")
    asked = (part.config.get("metainfo") or {}).get("classes")
    if not is_a(part, "BaseSegDataset") or not own or not isinstance(asked, list | tuple):
        return
    if unknown := [str(name) for name in asked if name not in own]:
        raise InputError(
            f"{part.name} is a {part.kind.__name__}, whose masks are numbered by its own {len(own)} "
            f"classes; {first(unknown)} is none of them. For masks of other classes set "
            "type='BaseSegDataset'"
        )


def _of(subject: str, fault: Fault) -> Fault:
    return dataclasses.replace(fault, found=f"{subject}: {fault.found}")
