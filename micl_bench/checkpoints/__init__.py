"""Checkpoints: weights, architecture and provenance, read without running anything they contain.

One public file per format: `recognise(content) -> bool` and `convert(content, *, arch, branch) ->
Converted`, by the keys of a file's content; a new format is a new file, here or a plug-in. Most state
where a network lies and the rules for its tensors, and leave the rest to `convert_network`.
"""

from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._in_memory import ModuleEncoder, in_memory
from micl_bench.checkpoints._load import (
    load_backbone,
    load_checkpoint,
    load_classifier,
    require_names,
)
from micl_bench.checkpoints._pretraining import Statement, stated
from micl_bench.checkpoints._read_file import digest_of
from micl_bench.checkpoints._save import export, save_checkpoint
from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("checkpoints", __path__)

__all__ = [
    "Checkpoint",
    "ModuleEncoder",
    "Statement",
    "digest_of",
    "export",
    "in_memory",
    "load_backbone",
    "load_checkpoint",
    "load_classifier",
    "require_names",
    "save_checkpoint",
    "stated",
]
