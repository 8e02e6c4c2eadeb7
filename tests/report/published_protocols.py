"""Records by the protocols of published numbers, and the verdicts on them."""

from collections.abc import Iterable
from typing import Any

from support import REPOSITORY
from synthetic_results import recorded, result

from micl_bench.data.pixels import evaluation_settings
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.records.published import Reference, read_references
from micl_bench.records.result import DataSet, Result
from micl_bench.report.compare.against_published import Verdict, verdicts
from micl_bench.report.frame.long import long_frame
from micl_bench.runtime.config import load_recipe, to_dict
from micl_bench.tasks.finetune.run import training_settings

TRAIN = DataSet(name="imagenet", split="train", images=1_281_167, digest="7" * 64)
VAL = {"name": "imagenet", "split": "val", "images": 50_000, "digest": "e" * 64, "stands_for": ""}
MAE = {"source": "timm:vit_base_patch16_224.mae", "format": "timm", "digest": "a" * 64}
TABLE = "end-to-end; normalized pixels; 100 ep (B) / 50 ep (L,H)"


def reference(words: str = "", **facts: Any) -> Reference:
    """The only published number with these facts whose protocol has the words."""
    (found,) = [
        one
        for one in read_references()
        if words in one.protocol and facts.items() <= vars(one).items()
    ]
    return found


def published() -> Reference:
    """The fine-tuning of ViT-B in MAE's paper."""
    return reference(protocol=TABLE, arch="ViT-B/16", method="MAE", task="imagenet_finetune")


def verdicts_on(results: Iterable[Result], references: Iterable[Reference]) -> list[Verdict]:
    """The verdicts on results, oldest first."""
    return verdicts(long_frame(recorded(results)[::-1]), references)


def verdict_on(results: Iterable[Result], one: Reference) -> Verdict:
    (found,) = verdicts_on(results, [one])
    return found


def finetuned(top1: float, **changes: Any) -> Result:
    """A fine-tuning of MAE's ViT-B by the shipped recipe, as the task records it."""
    path = REPOSITORY / "downstream" / "imagenet_finetune_vit_b16.py"
    one = load_recipe(path, FinetuneRecipe)
    settings = {
        "task": "finetune",
        **evaluation_settings(one.pixels),
        **training_settings(one, "bf16"),
        **changes.pop("settings", {}),
    }
    return result(
        **{
            "task": "finetune",
            "protocol": "end to end, 100 epochs, head on patch mean, 224 px",
            "method": "MAE",
            "arch": "vit_base_patch16_224",
            "metrics": {"top1": top1},
            "data": VAL,
            "train": TRAIN,
            "checkpoint": MAE,
            "recipe": to_dict(one),
            "settings": settings,
            **changes,
        }
    )
