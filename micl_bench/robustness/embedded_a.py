"""The hardest held-out scans for a classifier of plain pixels; stands in for ImageNet-A."""

from pathlib import PurePosixPath

from micl_bench.robustness import CleanSet, RobustnessSet

SET = RobustnessSet(
    title="embedded-A",
    folder=PurePosixPath("embedded-a"),
    clean=CleanSet(folder=PurePosixPath("embedded/val")),
    description="The hardest held-out scans for a classifier of plain pixels",
    reading="own classes",
)
