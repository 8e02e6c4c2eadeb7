"""Held-out scans in other inks, papers, strokes and textures; stands in for ImageNet-R."""

from pathlib import PurePosixPath

from micl_bench.robustness import RobustnessSet

SET = RobustnessSet(
    title="embedded-R",
    folder=PurePosixPath("embedded-r"),
    clean=PurePosixPath("embedded/val"),
    description="Held-out scans in other inks, papers, strokes and textures",
)
