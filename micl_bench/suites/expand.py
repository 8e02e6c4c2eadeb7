"""Expand a suite file to its runs: one per checkpoint, seed and value, each with what it needs."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import recipe_file
from micl_bench.suites.entries import (
    MADE,
    Entry,
    Given,
    Made,
    SuiteFile,
    check_method,
    in_one_line,
    split_made,
)
from micl_bench.suites.run import (
    Product,
    Recipe,
    Run,
    Word,
    checkpoint_word,
    content_digest,
    features_together,
)
from micl_bench.tasks import PRETRAINING, declared, declared_tasks

_MOST_RUNS = 10_000


@in_one_line()
def expand(file: SuiteFile) -> list[Run]:
    """Return all runs of a suite file, each after the runs that it needs.

    Raises:
        InputError: something that the file names does not exist, or two runs have one name or folder.
    """
    return _Expansion(file).runs()


@dataclasses.dataclass(frozen=True)
class _Start:
    """The start of an evaluation: its checkpoint, and what is stated of it."""

    name: str
    """The checkpoint's name in the suite file."""
    method: str
    """The method's name in tables."""
    checkpoint: Word
    values: tuple[tuple[str, str], ...] = ()
    drawn: int | None = None
    """The seed that the evaluation gets; None for its recipe's own."""
    words: tuple[str, ...] = ()
    """The options that say how the checkpoint is read, and from which pre-training it comes."""


class _Expansion:
    def __init__(self, file: SuiteFile) -> None:
        self._file = file
        self._steps: dict[str, Run] = {}
        self._by_key: dict[str, Run] = {}
        self._by_entry: dict[str, list[Run]] = {}
        self._first_reader: dict[tuple[str, ...], Run] = {}

    def runs(self) -> list[Run]:
        for name, words in self._file.prepare.items():
            self._steps[name] = self._add(self._prepared(name, words))
        for number, entry in enumerate(self._file.entries):
            if entry.name in self._by_entry:
                raise InputError(
                    f"{self._file.path} has two entries called {entry.name!r}; rename one"
                )
            place = f"{self._file.path}: $.entries[{number}]"
            self._by_entry[entry.name] = [
                self._add(run)
                for seed, start in self._starts(entry, place)
                for run in self._evaluations(entry, seed, start, place)
            ]
        runs = list(self._by_key.values())
        _require_distinct(runs, self._file.path)
        return features_together(runs)

    def _prepared(self, name: str, words: list[str]) -> Run:
        place = f"{self._file.path}, prepare {name!r}"
        resolved = tuple(
            self._data(word, place) if option == "--images" else word
            for option, word in zip(["", *words], words, strict=False)
        )
        return Run(
            name=f"prepare/{name}",
            entry="prepare",
            task="data",
            method="",
            words=resolved,
            data=name,
        )

    def _add(self, run: Run) -> Run:
        """Add a run, and return it or the equal one that is there already."""
        if len(self._by_key) == _MOST_RUNS:
            raise InputError(f"{self._file.path} asks for more than {_MOST_RUNS:,} runs")
        return self._by_key.setdefault(run.key, run)

    def _starts(self, entry: Entry, place: str) -> Iterator[tuple[int | None, _Start]]:
        if entry.of:
            yield from self._classifiers(entry, place)
            return
        chosen = entry.methods or list(entry.checkpoints)
        seeds: list[int | None] = [*entry.seeds] or [None]
        for name, seed in itertools.product(chosen, seeds):
            checkpoint = entry.checkpoints[name]
            if isinstance(checkpoint, Made):
                for start in self._made(name, checkpoint, seed, f"{place}, {name!r}"):
                    yield seed, start
                continue
            yield from self._given(name, checkpoint, seed, entry, f"{place}: {name!r}")

    def _given(
        self, name: str, given: Given, seed: int | None, entry: Entry, place: str
    ) -> Iterator[tuple[int | None, _Start]]:
        start = _Start(name, given.method or name, "", drawn=seed, words=_reading(given))
        if not given.files:
            word = given.checkpoint
            drawn = word.startswith("random:") or declared(entry.task).draws
            if drawn or seed is None or seed == entry.seeds[0]:
                yield seed, dataclasses.replace(start, checkpoint=checkpoint_word(word))
            return
        files = {int(key): file for key, file in given.files.items()}
        if seed is not None and seed not in files:
            known = ", ".join(map(str, sorted(files)))
            raise InputError(f"{place} has no file of seed {seed}; its files: {known}")
        _require_different(files, place)
        for one, file in files.items():
            if seed in (None, one):
                stated = ("--pretrain-name", name, "--pretrain-seed", str(one))
                words = (*start.words, *stated)
                yield one, dataclasses.replace(start, checkpoint=checkpoint_word(file), words=words)

    def _classifiers(self, entry: Entry, place: str) -> Iterator[tuple[int | None, _Start]]:
        for name in entry.of:
            runs = self._by_entry.get(name)
            if runs is None:
                raise InputError(f"{place}: `of` names {name!r}, no entry above it")
            for run in runs:
                if not (left := declared(run.task).leaves):
                    tasks = [one for one in declared_tasks().values() if one.leaves]
                    known = " or ".join(one.name for one in tasks if one is not PRETRAINING)
                    raise InputError(f"{place}: `of` names {name!r}, which is no {known}")
                classifier = Product(run, left)
                yield run.seed, _Start(run.start, run.method, classifier, run.values, run.drawn)

    def _made(self, name: str, made: Made, seed: int | None, place: str) -> Iterator[_Start]:
        changes: list[tuple[str, str] | None] = [None]
        changes += [
            (key, str(value)) for key, values in made.one_at_a_time.items() for value in values
        ]
        recipe = self._recipe(made.recipe, place)
        short = short_keys(list(made.one_at_a_time))
        for change in changes:
            sets = [*made.overrides, *([f"{change[0]}={change[1]}"] if change else [])]
            sets += [f"seed={seed}"] if seed is not None else []
            values = ((short[change[0]], change[1]),) if change else ()
            more = f" ({values[0][0]}={values[0][1]})" if values else ""
            method, named = (made.method or name) + more, name + more
            with in_one_line(place):
                check_method(method)
            data = self._data(made.data, place)
            run = Run(
                name=_name(PRETRAINING.name, named, seed=seed),
                entry=PRETRAINING.name,
                task=PRETRAINING.name,
                method=method,
                words=(PRETRAINING.name, recipe, "--data", data, *_set(sets), "--method", method),
                data=made.data,
                seed=seed,
                processes=made.processes,
            )
            yield _Start(named, method, Product(self._add(run), PRETRAINING.leaves), values, seed)

    def _evaluations(
        self, entry: Entry, seed: int | None, start: _Start, place: str
    ) -> Iterator[Run]:
        short = short_keys(list(entry.matrix))
        fixed: list[Word] = ["eval", entry.task, "--checkpoint", start.checkpoint, *start.words]
        data = self._data(entry.data, place)
        fixed += ["--data", data]
        fixed += ["--recipe", self._recipe(entry.recipe, place)] if entry.recipe else []
        for combination in itertools.product(*entry.matrix.values()):
            chosen = [(key, str(v)) for key, v in zip(entry.matrix, combination, strict=True)]
            sets = [*entry.overrides, *(f"{key}={value}" for key, value in chosen)]
            if start.drawn is not None:
                sets.append(f"{declared(entry.task).seed_key}={start.drawn}")
            values = (*start.values, *((short[key], value) for key, value in chosen))
            # What a pre-training changed stands in the method's name.
            own = values if entry.of else values[len(start.values) :]
            label = ",".join(f"{key}={value}" for key, value in own)
            run = Run(
                name=_name(entry.name, start.name, label, seed=seed),
                entry=entry.name,
                task=entry.task,
                start=start.name,
                method=start.method,
                words=(*fixed, *_set(sets), "--method", start.method),
                data=entry.data,
                seed=seed,
                drawn=start.drawn,
                values=values,
                after=self._reads_after(entry.task, start.checkpoint, data),
                processes=entry.processes,
            )
            if declared(entry.task).shares_features:
                self._first_reader.setdefault(_features_of(start.checkpoint, data), run)
            yield run

    def _reads_after(self, task: str, checkpoint: Word, data: Word) -> tuple[Run, ...]:
        """Return the run that computes the features which this one then only reads."""
        first = self._first_reader.get(_features_of(checkpoint, data))
        reads = first and declared(task).shares_features
        return (self._by_key.get(first.key, first),) if first and reads else ()

    def _data(self, word: str, place: str) -> Word:
        """Return a data folder: a step's, one below `data_root`, an absolute one, or a source's."""
        if not word.startswith(MADE):
            named = word.partition(":")[0] in plugins.names("data.sources")
            return word if named else str(Path(self._file.data_root, word))
        with in_one_line(place):
            step, below = split_made(word)
        if step not in self._steps:
            known = ", ".join(self._steps) or "none"
            raise InputError(
                f"{place}: {word!r} names no step above it in `prepare`; known: {known}"
            )
        return Product(self._steps[step], below)

    def _recipe(self, name: str, place: str) -> Recipe:
        """Find a recipe here, in a folder above the suite file, or among the shipped ones."""
        for folder in (Path(), *self._file.path.absolute().parents):
            if (folder / name).is_file():
                return Recipe(folder / name)
        try:
            return Recipe(recipe_file(name), name)
        except InputError as error:
            raise InputError(f"{place}, here and above {self._file.path}: {error}") from error


def _name(*parts: str, seed: int | None) -> str:
    return "/".join(filter(None, [*parts, "" if seed is None else f"seed={seed}"]))


def _set(assignments: list[str]) -> Iterator[str]:
    for assignment in assignments:
        yield from ("--set", assignment)


def _reading(given: Given) -> tuple[str, ...]:
    """Return the options of `eval` that say how a checkpoint is read."""
    named = ("arch", "format", "branch", "pixels")
    options = [(f"--{name}", getattr(given, name)) for name in named]
    words = [word for option, value in options if value for word in (option, value)]
    return (*words, *(["--strict"] if given.strict else []))


def _require_different(files: dict[int, str], place: str) -> None:
    """Raise an InputError where two files that are stated to differ in their seed are the same."""
    seeds: dict[str, int] = {}
    for seed, file in files.items():
        first = seeds.setdefault(content_digest(Path(file)), seed)
        if first != seed:
            raise InputError(
                f"{place} has the same content for seeds {first} and {seed}; seeds of one pre-training "
                "give different weights"
            )


def short_keys(keys: list[str]) -> dict[str, str]:
    """Map each dotted key to its last word, or to the whole key where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)
    }


def _features_of(checkpoint: Word, data: Word) -> tuple[str, ...]:
    """Return words that are equal for runs that read the same features."""
    words = (checkpoint, data)
    return tuple(word if isinstance(word, str) else str(word.identity()) for word in words)


def _require_distinct(runs: list[Run], path: Path) -> None:
    """Raise an InputError where two different runs bear one name or folder."""
    for kind, named in (("called", lambda run: run.name), ("in folder", lambda run: run.folder)):
        seen: set[object] = set()
        for run in runs:
            if (name := named(run)) in seen:
                raise InputError(f"{path} has two runs {kind} {str(name)!r}; rename an entry")
            seen.add(name)
