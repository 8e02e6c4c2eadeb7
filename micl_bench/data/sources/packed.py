"""Packed stores, which `micl-bench data pack` makes; a path is read so where one lies."""

from micl_bench.data.packed.store import open_store as open_images

__all__ = ["open_images"]
