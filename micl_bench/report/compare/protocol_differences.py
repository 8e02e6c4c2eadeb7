"""What a published number's source states, held against what a record measured: apart, or unknown."""

import dataclasses
import math
import re
from typing import Any

from micl_bench.records.names import is_called
from micl_bench.records.published import Reference, family, measures
from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.lineage import hardware_of, pretraining_stage

VAGUE_SET = "imagenet-v2"
"""ImageNetV2 is three sets, ten points of accuracy apart; a source that does not say which is vague."""
UNTOLD = "the checkpoint does not tell what it was pre-trained on"
"""How the caveat begins that leaves open whether two numbers are of one pre-training."""
_ABSENT = object()
_PRETRAIN = "pretrain."
_TRAIN_IMAGES = {"imagenet": 1_281_167, "ade20k": 20_210}
"""That a classifier or head is trained on, of the public sets whose records name them."""
_SHARES = {"1 %": 0.01, "10 %": 0.1}
_SHARE_TOLERANCE = 0.02
_EPOCH_TOLERANCE = 0.02
_TOLD = {
    "finetune": ("training.epochs", "training.optim.layer_decay", "drop_path", "pool"),
    "linear": ("optimizer", "probe.epochs", "readouts", "selection"),
    "knn": ("k", "temperature", "pool"),
    "logistic": ("readout", "selection"),
    "robustness": ("classifier", "reading"),
    "ade20k": ("head", "steps", "batch", "crop"),
    "coco": ("head", "config.model.neck.type", "epochs", "crop"),
}
"""By task, settings that readers of its numbers ask for first; a source that leaves one open is said."""


@dataclasses.dataclass
class Findings:
    """Lines for a reader."""

    reasons: list[str] = dataclasses.field(default_factory=list)
    """Why the two numbers are not of one protocol."""
    caveats: list[str] = dataclasses.field(default_factory=list)
    """What is not known of one or the other."""

    def differ(self, name: str, ours: object, published: object) -> None:
        """Note what both state, each in another way."""
        self.reasons.append(f"{name}: ours {_shown(ours)}, published {_shown(published)}")


def held_against(result: Result, reference: Reference) -> Findings:
    """What sets a record's number apart from a published one of the same method, task and metric."""
    found = Findings()
    _images(found, result, reference)
    _resolution(found, result, reference)
    _pretraining(found, result, reference)
    for name, stated in reference.settings.items():
        if name == "task" or name.startswith(_PRETRAIN):
            continue
        ours = _setting(result, name)
        if not _same(name, ours, stated):
            found.differ(name, "not set" if ours is _ABSENT else ours, stated)
    if result.task == "ade20k" and "scale" not in str(reference.settings.get("head")):
        found.caveats.append("the text read does not state whether one scale or several")
    if result.checkpoint.guesses:
        found.caveats.append(
            f"our checkpoint does not state {', '.join(result.checkpoint.guesses)}"
        )
    untold = [name for name in _TOLD.get(result.task, ()) if name not in reference.settings]
    ours_of = {name: _setting(result, name) for name in untold}
    if words := [f"{name} (ours {_shown(v)})" for name, v in ours_of.items() if v is not _ABSENT]:
        found.caveats.append(f"the text read does not state {', '.join(words)}")
    return found


def _images(found: Findings, result: Result, reference: Reference) -> None:
    data, public = result.data, measures(reference)[1]
    if data.stands_for:
        found.differ("data", f"{data.name}, which only stands in for {data.stands_for}", public)
    elif public == VAGUE_SET and family(data).startswith(public):
        found.differ("data", family(data), f"{public}, without saying which of its three sets")
    elif family(data) != public:
        found.differ("data", f"{data.name} ({data.images:,} images, split {data.split})", public)
    if data.stands_for or result.train is None:
        return
    if "labels" in reference.settings:
        found.caveats.append("the text read does not state which of the images had labels")
    elif (wanted := _TRAIN_IMAGES.get(public)) and result.train.images != wanted:
        found.differ("training images", f"{result.train.images:,}", f"{wanted:,} of {public}")


def _resolution(found: Findings, result: Result, reference: Reference) -> None:
    ours = _setting(result, "img_size" if "img_size" in result.settings else "crop")
    if result.task == "pretrain":
        ours = _setting(result, "pixels.img_size")
    if reference.resolution is None:
        if ours is not _ABSENT and result.task not in ("ade20k", "coco"):
            found.caveats.append(f"the text read does not state the input size (ours {ours})")
    elif ours is _ABSENT:
        found.caveats.append(f"the record does not tell its input size ({reference.resolution})")
    elif ours != reference.resolution:
        found.differ("input size", ours, reference.resolution)


def _pretraining(found: Findings, result: Result, reference: Reference) -> None:
    settings, epochs, data = _pretraining_of(result)
    published = reference.pretrain_epochs
    stages = result.checkpoint.origin
    from_nothing = reference.settings.get("checkpoint.format") == "random"
    if settings is None and stages and stages[0].task == "initialise":
        if not from_nothing:
            found.differ("pre-training", "none", f"on {reference.pretrain_data}")
    elif settings is None and not from_nothing:
        of = "" if published is None else f", {published:g} epochs"
        found.caveats.append(
            f"{UNTOLD}, or for how long (published: {reference.pretrain_data}{of})"
        )
    if settings is not None:
        if published is None:
            found.caveats.append(
                f"the text read does not state the epochs of pre-training (ours {epochs:g})"
            )
        elif not math.isclose(epochs, published):
            found.differ("epochs of pre-training", f"{epochs:g}", f"{published:g}")
        _pretraining_data(found, result, data, reference.pretrain_data)
    for name, stated in reference.settings.items():
        if not name.startswith(_PRETRAIN):
            continue
        ours = _at(settings or {}, name.removeprefix(_PRETRAIN))
        if ours is _ABSENT:
            words = name.removeprefix(_PRETRAIN)
            found.caveats.append(f"pre-training: published {words} {_shown(stated)}, ours unknown")
        elif not _same(name, ours, stated):
            found.differ(name, ours, stated)


def _pretraining_of(result: Result) -> tuple[dict[str, Any] | None, float, tuple[str, str]]:
    """Settings, epochs, and the images' name and digest; no settings where the file does not tell."""
    if result.task == "pretrain":
        settings = result.settings
        data = (result.data.name, result.data.digest)
        return settings, float(settings.get("epochs", math.nan)), data
    stage = pretraining_stage(result)
    if stage is None:
        return None, math.nan, ("", "")
    stages = [one for one in result.checkpoint.origin if one.task == "pretrain"]
    epochs = math.fsum(one.epochs for one in stages)
    return stage.settings, epochs, (stage.data, stage.data_digest)


def _pretraining_data(
    found: Findings, result: Result, ours: tuple[str, str], published: str
) -> None:
    name, digest = ours
    if published != "ImageNet-1K" or not is_called(name, "imagenet"):
        if name != published:
            found.differ("images of pre-training", name, published)
        return
    known: list[DataSet] = [one for one in (result.data, result.train) if one is not None]
    if not any(one.digest == digest and family(one) == "imagenet" for one in known):
        found.caveats.append(
            f"the images of pre-training are called {name}; that they are {published} is not checked"
        )


def _setting(result: Result, name: str) -> Any:
    """A setting of a record by the ledger's name for it."""
    if name == "checkpoint.format":
        return result.checkpoint.format
    if name == "hardware":
        return hardware_of(result.environment)
    if name == "crop":
        return _crop(result)
    if name == "epochs" and result.task in ("ade20k", "coco"):
        return _epochs(result)
    if name == "labels" and result.train is not None:
        return f"{result.train.images:,} of the images"
    if name == "probe.epochs" and _at(result.recipe, "probe.steps") not in (0, _ABSENT):
        return f"{_at(result.recipe, 'probe.steps')} steps"
    found = _at(result.settings, name)
    return _at(result.recipe, name) if found is _ABSENT else found


def _at(node: Any, name: str) -> Any:
    """The value at a dotted name, or `_ABSENT`."""
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _crop(result: Result) -> Any:
    """Side of the square that a segmenter or detector is trained on, where it is one square."""
    size = _at(result.settings, "config.model.data_preprocessor.size")
    if isinstance(size, list) and len(set(map(str, size))) == 1:
        return size[0]
    return _at(result.settings, "config.model.backbone.img_size")


def _epochs(result: Result) -> Any:
    steps, batch = _at(result.settings, "steps"), _at(result.settings, "batch")
    if not isinstance(steps, int) or not isinstance(batch, int) or not result.train:
        return _ABSENT
    return round(steps * batch / max(1, result.train.images), 2)


def _same(name: str, ours: Any, stated: Any) -> bool:
    """Whether a record's value is what a source states; our words may go on where theirs end."""
    if ours is _ABSENT:
        return stated is False
    if name == "labels":
        share = int(str(ours).split()[0].replace(",", "")) / _TRAIN_IMAGES["imagenet"]
        return math.isclose(share, _SHARES[str(stated)], rel_tol=_SHARE_TOLERANCE)
    if name == "readouts" and isinstance(stated, str):
        parts = [part for one in ours for part in str(one).split("+")]
        return all(part.startswith(f"{stated}_") for part in parts)
    if name == "hardware":
        return _same_hardware(str(ours), str(stated))
    if name == "epochs" and isinstance(ours, int | float):
        return math.isclose(ours, float(stated), rel_tol=_EPOCH_TOLERANCE)
    if isinstance(stated, bool) or isinstance(ours, bool):
        return ours is stated
    if isinstance(stated, int | float) and isinstance(ours, int | float):
        return math.isclose(ours, stated)
    if isinstance(stated, str) and isinstance(ours, str):
        return bool(re.match(rf"{re.escape(stated)}(?!\w)", ours, re.IGNORECASE))
    return bool(ours == stated)


def _same_hardware(ours: str, stated: str) -> bool:
    """`4 x NVIDIA A100-SXM4-80GB` is `4 x A100`."""
    number, times, kind = stated.partition(" x")
    if not times:
        number, kind = "", stated
    counted = not number or ours.startswith(f"{number} x ")
    return counted and kind.strip().lower() in ours.lower()


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(str, value)) if len(value) < 4 else f"{len(value)} values"
    return str(value)
