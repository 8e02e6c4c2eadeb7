"""`micl-bench doctor` finds what would spoil a run here, and says how to fix it."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from micl_bench.cli.options import Json
from micl_bench.runtime.errors import InputError


def doctor(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Data folder to check; repeatable.", show_default=False),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Config of eval ade20k or coco: check each --data as that run would, by name or path.",
            show_default=False,
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Check the installation, the machine and data folders.

    Each finding that needs one comes with a fix. A problem would make a run fail or a number wrong, and
    the exit code is then 2. A warning names a cost or a limit.
    """
    from micl_bench.doctor import (
        check_data,
        check_for_recipe,
        check_installation,
        check_machine,
    )
    from micl_bench.records.provenance import environment
    from micl_bench.runtime.files import atomic_write
    from micl_bench.runtime.log import printable

    if recipe and not data:
        raise InputError("--recipe says what --data is for; give the folder too: --data FOLDER")
    findings = [*check_installation(), *check_machine()]
    for folder in data or []:
        findings += check_for_recipe(folder, recipe) if recipe else check_data(folder)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        subject, found = printable(finding.subject), printable(finding.found)
        print(f"{finding.level:7}  {subject:{min(width, 32)}}  {found}")
        if finding.fix:
            print(f"{'':7}  fix: {printable(finding.fix)}")
    if json_file:
        rows = [dataclasses.asdict(finding) for finding in findings]
        content = {"findings": rows, "environment": environment()}
        atomic_write(json_file, (json.dumps(content, indent=2) + "\n").encode())
    problems = [printable(finding.subject) for finding in findings if finding.level == "problem"]
    if problems:
        raise InputError(f"{len(problems)} found that must be fixed: {', '.join(problems)}")
