"""States of a run on disk: a kill at any moment, a full disk or a damaged file loses a few steps.

states/step-<step>-<digest>.pt   the newest two; <digest> is the beginning of the file's SHA-256

A file gets its name only when it is whole and on disk, and is read only if its content fits it.
"""

from pathlib import Path
from typing import Any

import torch

from micl_bench.runtime.distributed import any_process, from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file, temporary_file, to_disk
from micl_bench.runtime.log import say
from micl_bench.runtime.safe_reading.read import read_safely

_KEPT = 2
_DIGITS = 16


class States:
    """The saved states of one run."""

    def __init__(self, folder: Path) -> None:
        """Look at the folder."""
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is no folder; remove it, or give another --out")
        self.folder = folder

    def exist(self) -> bool:
        """Return True where a state was saved."""
        return bool(self._files())

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write one state; the last one before it stays, older ones go.

        Raises:
            OSError: the disk is full or gone; what was saved before is untouched.
        """
        with temporary_file(self.folder / "state.pt") as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:
                # torch's writer has its own error for a write that the system refused.
                raise OSError(
                    f"the state of step {step} cannot be written ({str(error).splitlines()[0]}); "
                    f"those saved before in {self.folder} are whole"
                ) from error
            to_disk(temporary)
            digest = digest_file(temporary)
            temporary.replace(self.folder / f"step-{step:09d}-{digest[:_DIGITS]}.pt")
        for old in self._files()[_KEPT:]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The newest state whose content fits its name, or None where nothing was saved.

        The first process looks, for all. Damaged files are set aside, so that they do not count as
        one of those that are kept.

        Raises:
            InputError: there are states, and all of them are damaged; or this process does not see
                the one that the first found.
        """
        path, problem = from_first(self._find() if rank() == 0 else None)
        if problem:
            raise InputError(problem)
        if path is None:
            return None
        if any_process(not path.exists()):
            raise InputError(
                f"a process does not see {path}; --out must be on a file system that all machines share"
            )
        return read_safely(path)

    def _find(self) -> tuple[Path | None, str]:
        damaged: list[Path] = []
        for path in self._files():
            if digest_file(path).startswith(path.stem.rpartition("-")[2]):
                for bad in damaged:
                    bad.rename(bad.with_name(f"damaged-{bad.name}"))
                return path, ""
            say(f"{path} is damaged (its content does not fit its checksum); trying an older one")
            damaged.append(path)
        if damaged:
            return None, f"every saved state in {self.folder} is damaged; remove it to start over"
        return None, ""

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*-*.pt"), reverse=True)
