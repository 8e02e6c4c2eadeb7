"""Held-out scans in other inks, papers, strokes and textures; stands in for ImageNet-R."""

from pathlib import PurePosixPath

from micl_bench.robustness import CleanSet, RobustnessSet

SET = RobustnessSet(
    title="embedded-R",
    folder=PurePosixPath("embedded-r"),
    clean=CleanSet(folder=PurePosixPath("embedded/val")),
    description="Held-out scans in other inks, papers, strokes and textures",
    reading="own classes",
)
