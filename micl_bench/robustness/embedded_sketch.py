"""Outlines of held-out scans; stands in for ImageNet-Sketch."""

from pathlib import PurePosixPath

from micl_bench.robustness import CleanSet, RobustnessSet

SET = RobustnessSet(
    title="embedded-Sketch",
    folder=PurePosixPath("embedded-sketch"),
    clean=CleanSet(folder=PurePosixPath("embedded/val")),
    description="Outlines of held-out scans",
    reading="own classes",
)
