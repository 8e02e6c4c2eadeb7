"""Options that several commands share, alone and in groups, and the writer of `--json`."""

import dataclasses
import functools
import inspect
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.network import check_source

if TYPE_CHECKING:
    from micl_bench.checkpoints import Checkpoint


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which each parameter that is a dataclass becomes an option per field."""
    hints = typing.get_type_hints(command, include_extras=True)
    options: list[inspect.Parameter] = []
    groups: dict[str, Any] = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
    }
    for parameter in inspect.signature(command).parameters.values():
        if (group := groups.get(parameter.name)) is None:
            options.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        inner = typing.get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            needed = field.default is dataclasses.MISSING
            default = inspect.Parameter.empty if needed else field.default
            options.append(
                parameter.replace(name=field.name, annotation=inner[field.name], default=default)
            )

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            values[name] = group(**own)
        command(**values)

    keyword = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    flat.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def no_folder(file: Path | None) -> Path | None:
    """Return the file of `--json`; raises an InputError where it is a folder."""
    if file and file.is_dir():
        raise InputError(f"--json {file} is a folder; give a file")
    return file


def write_json(file: Path | None, content: Any) -> None:
    """Write a value as JSON to the file of `--json`, if one is given."""
    if file:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # A name of any bytes is written as JSON escapes it.
        atomic_write(file, text.encode(errors="backslashreplace"))


SOURCES = "A file, a folder as Hugging Face has them, timm:NAME, public:NAME or random:ARCH."
Source = Annotated[
    str, typer.Option("--checkpoint", help=SOURCES, show_default=False, callback=check_source)
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        help=f"Start from a checkpoint's backbone, not from random weights. {SOURCES}",
        show_default=False,
        callback=lambda source: source and check_source(source),
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        help="Data folder in the task's layout, or SOURCE:PLACE (see `micl-bench list sources`).",
        show_default=False,
    ),
]
Images = Annotated[
    Path,
    typer.Option(
        help="Folder of class folders or of images, one image, or a packed store.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the input in pixels; the checkpoint's own if not given."),
]
CropPct = Annotated[
    float,
    typer.Option(help="Share of the short side that the centre crop keeps."),
]
Out = Annotated[Path, typer.Option(help="Folder for the output.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe, such as seed=1; repeatable.",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the checkpoint, where its tensors fit several: a name of `micl-bench list "
        "formats`.",
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(
        help="Which of several networks in the file to take: teacher, student, base or momentum."
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse a checkpoint where something would have to be assumed."),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", callback=no_folder, help="Also write everything to this file, as JSON."),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """The options of reading a checkpoint."""

    arch: Annotated[
        str | None,
        typer.Option(
            help="Architecture, where the file's shapes do not determine it: a name, or values such as "
            "heads=6,grid=14x14,norm_eps=1e-6."
        ),
    ] = None
    layout: Layout = None
    branch: Branch = None
    pixels: Annotated[
        str | None,
        typer.Option(
            help="Mean and standard deviation of the pixels that the network was trained with, where "
            "the file does not state them: imagenet, inception (0.5), clip, or six numbers with commas "
            "between them.",
        ),
    ] = None

    def load(self, source: str) -> "Checkpoint":
        """Read a checkpoint with these options."""
        from micl_bench.checkpoints import load_checkpoint

        return load_checkpoint(
            source, arch=self.arch, layout=self.layout, branch=self.branch, pixels=self.pixels
        )
