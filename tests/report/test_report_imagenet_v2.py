"""ImageNetV2 is three sets; published numbers do not say of which, and share no column with one."""

from synthetic_results import recorded, result

from micl_bench.records.published import read_references
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables


def test_measured_and_published_numbers_of_imagenet_v2_share_no_column() -> None:
    made = [
        result(
            task="robustness",
            method="DINOv2",
            arch="vit_small_patch14_dinov2",
            metrics={"top1": 70.0, "clean_top1": 81.0, "drop": 11.0},
            data={"name": f"imagenet-v2-{name}", "split": "all", "images": 10_000},
            start=f"2025-05-01T10:00:0{turn}+00:00",
        )
        for turn, name in enumerate(("matched-frequency", "threshold-0.7", "top-images"))
    ]
    selection = select(recorded(made))
    table = next(
        one for one in build_tables(selection, read_references()) if one.name == "robustness"
    )
    kinds: dict[str, set[str]] = {}
    for number, column in enumerate(table.columns):
        if "V2" in column.group:
            found = {row.cells[number].kind for row in table.rows} - {"missing"}
            kinds.setdefault(column.group, set()).update(found)
    assert kinds == {
        "ImageNet-V2, set not stated": {"published"},
        "ImageNet-V2, matched frequency": {"measured"},
        "ImageNet-V2, threshold 0.7": {"measured"},
        "ImageNet-V2, top images": {"measured"},
    }
