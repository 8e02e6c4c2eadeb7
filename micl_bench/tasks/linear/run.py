"""Linear probe: linear classifiers on frozen features, MAE's protocol or DINOv2's grid."""

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import look_at
from micl_bench.data.file_lists import split_by_class
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.features import read_out, readout_names, require_readouts
from micl_bench.engine.frozen.probe.batches import AugmentedImages, StoredFeatures
from micl_bench.engine.frozen.probe.heads import Choice, Head, Probe, Readouts, choose_head
from micl_bench.engine.frozen.probe.probe import ProbeConfig
from micl_bench.engine.frozen.stored import Features
from micl_bench.records.result import Result
from micl_bench.runs.precision import at_precision
from micl_bench.runs.run import Run, RunRecipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, Fraction, Precision, Seed, Workers
from micl_bench.tasks._frozen import (
    Labelled,
    classified,
    feature_details,
    open_labelled,
    readout_words,
    require_one_way,
)
from micl_bench.tasks._request import Request
from micl_bench.tasks.linear import TASK

FOLDABLE = "cls_1"
"""The readout that timm's ViTs can put a head on without another norm."""
HELD_OUT = 0.1
"""Share of each class's training images, where the best head is not chosen on the evaluated ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearRecipe(RunRecipe):
    """Input and the classifiers' training. Defaults: MAE's (He et al. 2022, table 10)."""

    carried_out: ClassVar[tuple[str, ...]] = (
        *("batch_size", "num_workers", "save_every_steps"),
        # Images that it holds out are none of those trained on, whose digest counts.
        "selection",
    )

    pixels: Pixels = Pixels(crop_scale=(0.08, 1.0), flip=True)
    """With crops or flips the backbone runs on every batch anew; without, once on each image."""
    probe: ProbeConfig = ProbeConfig()
    selection: Literal["evaluated", "held_out"] = "evaluated"
    """The images on which the best of several heads is chosen: the `evaluated` ones, as for DINOv2's
    numbers, or a tenth of the training images, which is then `held_out` of training."""
    labels: str = ""
    """A list of the training images to use (SimCLR's `1percent.txt`); empty for all."""
    fraction: Fraction = 1.0
    """Share of each class that the seed draws, where no list is given."""
    precision: Precision = "fp32"
    """Precision of the backbone: fp32 or bf16; heads are always fp32."""
    batch_size: Count = 128
    """Images that are read at a time where features are stored; moves no number."""
    num_workers: Workers = 0
    save_every_steps: Count = 50
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.selection == "held_out" and self.probe.heads == 1:
            raise InputError("selection=held_out, but there is one head: nothing to choose")
        require_one_way(self.labels, self.fraction)

    @property
    def augments(self) -> bool:
        """True where every epoch sees other pixels."""
        return self.pixels.crop_scale != (1.0, 1.0) or self.pixels.flip


RECIPE = LinearRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """top1 and top5 on `<data>/val` of the best head trained on `<data>/train`.

    The last step counts, not the best epoch. Killed, the same call goes on from the last saved step.
    """
    recipe = request.open(LinearRecipe)
    require_readouts(request.loaded.arch, recipe.probe.reads)
    images = open_labelled(
        request.data, labels=recipe.labels, fraction=recipe.fraction, seed=recipe.seed
    )
    return [_Grid(request, recipe, images).run()]


class _Grid:
    """The heads of one recipe, and the images on which they are trained, chosen and measured."""

    def __init__(self, request: Request, recipe: LinearRecipe, images: Labelled) -> None:
        self.request, self.recipe, self.images = request, recipe, images
        self.checkpoint, self.device = request.loaded, request.device
        share = HELD_OUT if recipe.selection == "held_out" else 0.0
        self.chosen_on, self.fitted = split_by_class(images.train.labels_N, share, seed=recipe.seed)
        self.plan = recipe.probe.plan(len(self.fitted), save_every_steps=recipe.save_every_steps)
        info, content = self.checkpoint.info, self.checkpoint.content
        backbone = (info.digest, content.branch, str(self.checkpoint.arch))
        self.trained_on = images.train.part(self.fitted)
        digests = {"train_digest": self.trained_on.digest}
        digests["checkpoint_digest"] = digest_json(backbone)
        self.trained = Run(request.out, recipe, digests=digests, measurement=request.measurement)
        if recipe.augments:
            look_at(images.train)
        self.test = request.features(images.test, beside=images.train)
        self.stored = {"val": self.test}
        self.probe = Probe(
            recipe.probe,
            self.plan,
            widths=dict.fromkeys(self.test.readouts, self.checkpoint.arch.width),
            num_classes=len(images.train.classes),
            seed=recipe.seed,
            device=self.device,
        )

    def run(self) -> Result:
        """Train, choose, measure, keep a classifier."""
        probe = self.recipe.probe
        rates = ", ".join(f"{self.plan.scaled(rate):g}" for rate in probe.base_lrs)
        say(
            f"linear probe: {probe.heads} heads, batch {self.plan.batch_size}, "
            f"{self.plan.total_steps} steps, learning rates in use {rates}"
        )
        train = self._train_on_images if self.recipe.augments else self._train_on_features
        held_out, seen = train()
        truth_M, truth_K = (
            torch.from_numpy(one.labels_N) for one in (self.images.test, self.images.train)
        )
        choice = choose_head(
            self.probe,
            (self._read(self.test), truth_M),
            (held_out, truth_K[torch.from_numpy(self.chosen_on)]) if len(self.chosen_on) else None,
        )
        return self._record(choice, seen)

    def _train_on_features(self) -> tuple[Readouts, str]:
        """Train; returns readouts of the images on which the best head is chosen, and words on the
        training images."""
        stored = self.stored["train"] = self.request.features(self.images.train)
        features = self._read(stored)
        batches = StoredFeatures(
            folder=self.trained_on,
            features=features,
            rows_K=self.fitted,
            batch_size=self.plan.batch_size,
            seed=self.recipe.seed,
            device=self.device,
        )
        self.probe.train(batches, self.trained, device=self.device)
        rows = torch.from_numpy(self.chosen_on)
        return {name: values[rows] for name, values in features.items()}, "as evaluated"

    def _train_on_images(self) -> tuple[Readouts, str]:
        """The same as `_train_on_features`, on images that are augmented anew."""
        pixels, train = self.recipe.pixels, self.images.train
        model = self.checkpoint.backbone(img_size=pixels.img_size).to(self.device)
        names = self.recipe.probe.reads
        places_R = [readout_names(model).index(name) for name in names]

        def read(images: Tensor) -> Tensor:
            return read_out(model, self.checkpoint.normalise(images))[:, places_R]

        batches = AugmentedImages(
            folder=self.trained_on,
            read=read,
            names=names,
            pixels=pixels,
            batch_size=self.plan.batch_size,
            seed=self.recipe.seed,
            device=self.device,
            num_workers=self.recipe.num_workers,
        )
        with at_precision(self.recipe.precision, model, self.device):
            self.probe.train(batches, self.trained, device=self.device)
        held_out: Readouts = {}
        if len(self.chosen_on):
            self.stored["held_out"] = self.request.features(train.part(self.chosen_on))
            held_out = self._read(self.stored["held_out"])
        low, high = pixels.crop_scale
        crop = f"random crops of {low:g} to {high:g} of the area, bicubic"
        mirrored = ", half of them mirrored" if pixels.flip else ""
        return held_out, f"{'as evaluated' if low == 1 else crop}{mirrored}, new in each epoch"

    def _read(self, stored: Features) -> Readouts:
        return {name: stored.tensor(name) for name in self.recipe.probe.reads}

    def _record(self, choice: Choice, seen: str) -> Result:
        images = self.images
        details = {**images.details, **feature_details(**self.stored)}
        details |= {"grid": choice.rows, "chosen": choice.row}
        read = self.checkpoint.features or choice.head.readout
        if read != FOLDABLE:
            why = f"timm's ViTs put no head on {read}"
            details["classifier"] = f"none: {why}"
            say(f"no {TASK.leaves} is kept: it would be a ViT of timm's, and {why}")
        (result,) = self.request.measure(
            TASK,
            protocol=self._protocol,
            data=images.test.describe(),
            train=images.train.describe(),
            settings={
                **self.test.settings,
                **self.recipe.probe.settings(self.plan),
                **images.settings,
                "training_images": seen,
                "selection": self._selection,
            },
            evidence=classified(images.test, choice.logits_MC),
            details=details,
            artifacts={"classifier": TASK.leaves} if read == FOLDABLE else {},
        )
        if read == FOLDABLE:
            self._keep_classifier(choice.head, result)
        return result

    def _keep_classifier(self, head: Head, result: Result) -> None:
        words = [f"linear probe on {readout_words(head.readout, self.checkpoint)}"]
        if self.recipe.labels:
            words.append(f"{len(self.images.train)} listed labels")
        elif self.recipe.fraction < 1:
            words.append(f"{self.recipe.fraction:.3g} of each class's labels")
        self.request.keep_classifier(
            TASK,
            result,
            classifier(self.checkpoint, head, img_size=self.recipe.pixels.img_size),
            made=", ".join(words),
            classes=self.images.train.classes,
            epochs=self.plan.total_steps * self.plan.batch_size / len(self.fitted),
        )

    @property
    def _selection(self) -> str:
        if self.recipe.probe.heads == 1:
            return "one head"
        if self.recipe.selection == "evaluated":
            return "best of grid on the evaluated images"
        return f"best of grid on {HELD_OUT:.0%} of each class's training images, held out"

    @property
    def _protocol(self) -> str:
        probe, heads = self.recipe.probe, self.recipe.probe.heads
        length = f"{probe.steps} steps" if probe.steps else f"{probe.epochs} epochs"
        read = "readouts"
        if len(probe.readouts) == 1:
            read = readout_words(probe.readouts[0], self.checkpoint)
        words = (
            f"{'batch norm + ' if probe.batch_norm else ''}linear on frozen {read}",
            f"{probe.optimizer.upper()}, {length} of batch {self.plan.batch_size}",
            "crops and flips" if self.recipe.augments else "no augmentation",
            self.images.words,
            "" if heads == 1 else f"{heads} heads, {self._selection}",
            f"{self.recipe.pixels.img_size} px",
        )
        return ", ".join(filter(None, words))


def classifier(checkpoint: Checkpoint, head: Head, *, img_size: int) -> Any:
    """The backbone with a head that gives the logits of a probe's head, which reads `FOLDABLE`; its
    batch norm is folded into it."""
    weight_CD, bias_C = head.folded()
    model = checkpoint.with_new_head(
        num_classes=len(bias_C), img_size=img_size, drop_path=0.0, pool="token", seed=0
    )
    with torch.no_grad():
        for name, value in (("head.weight", weight_CD), ("head.bias", bias_C)):
            model.get_parameter(name).copy_(value)
    return model
