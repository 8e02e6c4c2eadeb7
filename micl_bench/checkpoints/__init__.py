"""Checkpoints: weights, architecture and provenance, read without running anything they contain.

One public file per layout (`recognise`, `convert`); a new layout is a new file.
"""

from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._load import digest_of, load_backbone, load_checkpoint, load_classifier
from micl_bench.checkpoints._names import require_names
from micl_bench.checkpoints._save import export, save_checkpoint
from micl_bench.checkpoints._stated import Statement, stated

__all__ = [
    "Checkpoint",
    "Statement",
    "digest_of",
    "export",
    "load_backbone",
    "load_checkpoint",
    "load_classifier",
    "require_names",
    "save_checkpoint",
    "stated",
]
