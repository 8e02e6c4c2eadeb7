"""Tables of results, and the results and published numbers that tests make them of."""

import dataclasses
import json
from typing import Any

from synthetic_results import recorded, result

from micl_bench.records.published import Reference
from micl_bench.records.result import Result
from micl_bench.records.weights import Stage
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables
from micl_bench.report.tables.model import Cell, Table
from micl_bench.runtime.files import digest_json

IMAGENET = {"name": "imagenet", "split": "val", "images": 50_000}
KNN = "linear-knn-few-embedded"


def built(*results: Result, references: list[Reference] | None = None) -> dict[str, Table]:
    """All tables of some records, by name; later ones are newer."""
    dated = [
        dataclasses.replace(one, start=f"2025-05-01T{i // 60:02d}:{i % 60:02d}:00+00:00")
        for i, one in enumerate(results)
    ]
    selection = select(recorded(dated))
    return {table.name: table for table in build_tables(selection, references or [])}


def column(table: Table, header: str) -> dict[str, Cell]:
    """The cells below a header by the rows' labels."""
    (number,) = [i for i, one in enumerate(table.columns) if one.header == header]
    return {row.label: row.cells[number] for row in table.rows}


def trained(seed: int, *, epochs: int = 10, task: str = "pretrain", **settings: Any) -> Stage:
    stated = {"epochs": epochs, **settings}
    return Stage(
        task=task,
        method="MiCL",
        fingerprint=digest_json(stated),
        seed=seed,
        epochs=epochs,
        data="embedded",
        data_digest="e" * 64,
        settings=stated,
    )


def of(seed: int, top1: float, *stages: Stage, **changes: Any) -> Result:
    """A record of weights of their own."""
    stated = json.dumps([seed, *map(dataclasses.asdict, stages)])
    weights = {"digest": digest_json(stated), "origin": stages or (trained(seed),)}
    weights |= changes.pop("checkpoint", {})
    return result(metrics={"top1": top1}, seed=seed, checkpoint=weights, **changes)


def top1(value: float, **changes: Any) -> Result:
    return result(metrics={"top1": value}, **changes)


def published(**changes: Any) -> Reference:
    values: dict[str, Any] = {
        "id": "published-0123456789",
        "method": "MAE",
        "arch": "ViT-B/16",
        "resolution": 224,
        "pretrain_data": "ImageNet-1K",
        "pretrain_epochs": 1600.0,
        "task": "imagenet_finetune",
        "protocol": "end to end, 100 epochs",
        "metric": "top1",
        "value": 83.6,
        "unit": "%",
        "source": "arXiv:2111.06377 Table 3",
        "source_detail": "the paper",
        **changes,
    }
    return Reference(**values)


OURS = published(id="published-a", method="OCL", arch="ViT-L/16", pretrain_epochs=None, value=85.8)
HOURS = dataclasses.replace(
    OURS, id="published-b", task="pretrain_cost", metric="wall_hours", value=133.0, unit="hours"
)


def tuned(**changes: Any) -> Result:
    return result(
        **{"task": "finetune", "arch": "vit_base_patch16_224", "data": IMAGENET, **changes}
    )
