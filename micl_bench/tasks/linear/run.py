"""Linear probe: linear classifiers on frozen features, MAE's protocol or DINOv2's grid."""

import dataclasses
from typing import ClassVar, Literal

import torch
from torch import Tensor

from micl_bench.data.checked import look_at
from micl_bench.data.file_lists import split_by_class
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.feature_cache import Features
from micl_bench.engine.frozen.probe.batches import AugmentedImages, StoredFeatures
from micl_bench.engine.frozen.probe.choice import FOLDABLE, choose_head, write_classifier
from micl_bench.engine.frozen.probe.heads import Head, Probe, Readouts
from micl_bench.engine.frozen.probe.probe import ProbeConfig, probe_settings
from micl_bench.engine.frozen.probe.train import train_probe
from micl_bench.engine.frozen.readouts import read_out, readout_names, require_readouts
from micl_bench.records.result import Result
from micl_bench.runs.ownership import RunRecipe
from micl_bench.runs.precision import at_precision
from micl_bench.runs.run import Run
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, Fraction, Precision, Seed, Workers
from micl_bench.tasks._classified import classified, readout_words
from micl_bench.tasks._few_labels import Labelled, open_labelled, require_one_way
from micl_bench.tasks._frozen import feature_details
from micl_bench.tasks._request import Request
from micl_bench.tasks._session import Session
from micl_bench.tasks.linear import TASK

HELD_OUT = 0.1
"""Of each class's training images, where the best head is not chosen on the evaluated ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearRecipe(RunRecipe):
    """Input and the classifiers' training. Defaults: MAE's (He et al. 2022, table 10)."""

    carried_out: ClassVar[tuple[str, ...]] = (
        *("batch_size", "num_workers", "save_every_steps"),
        # Images that it holds out are none of those trained on, whose digest counts.
        "selection",
    )

    pixels: Pixels = Pixels(crop_scale=(0.08, 1.0), flip=True)
    """With a crop or flip, the backbone runs on every batch anew; without, once on each image."""
    probe: ProbeConfig = ProbeConfig()
    selection: Literal["evaluated", "held_out"] = "evaluated"
    """What the best of several heads is chosen on: the `evaluated` images, as DINOv2's numbers are, or
    a tenth of the training images, which is then `held_out` of training."""
    labels: str = ""
    """A list of the training images to use (SimCLR's `1percent.txt`); empty for all."""
    fraction: Fraction = 1.0
    """Without a list, share of each class to draw by the seed."""
    precision: Precision = "fp32"
    """Of the backbone: fp32 or bf16; heads are always fp32."""
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
        """Whether every epoch sees other pixels."""
        return self.pixels.crop_scale != (1.0, 1.0) or self.pixels.flip


RECIPE = LinearRecipe
"""What `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """top1 and top5 on `<data>/val` of the best head trained on `<data>/train`.

    The last step counts, not the best epoch. Killed, the same call goes on from the last saved step.

    Raises:
        Stopped: a signal asked for it; the training is saved.
        InputError: bad recipe, checkpoint or data, or every head diverged.
    """
    session = request.open(LinearRecipe)
    recipe = session.recipe
    require_readouts(session.checkpoint.arch, recipe.probe.reads)
    images = open_labelled(
        request.data, labels=recipe.labels, fraction=recipe.fraction, seed=recipe.seed
    )
    return [_Grid(session, images).run()]


class _Grid:
    """The heads of one recipe: what they are trained on, chosen on and measured on."""

    def __init__(self, session: Session[LinearRecipe], images: Labelled) -> None:
        self.session, self.images, self.device = session, images, session.device
        self.recipe: LinearRecipe = session.recipe
        share = HELD_OUT if self.recipe.selection == "held_out" else 0.0
        labels_M = images.train.labels_N
        self.chosen_on, self.fitted = split_by_class(labels_M, share, seed=self.recipe.seed)
        self.plan = self.recipe.probe.plan(
            len(self.fitted), save_every_steps=self.recipe.save_every_steps
        )
        self.trained = self._run()
        if self.recipe.augments:
            look_at(images.train)
        self.stored = {"val": session.features(images.test, beside=images.train)}
        self.test = self.stored["val"]
        self.probe = Probe(
            self.recipe.probe,
            self.plan,
            widths=dict.fromkeys(self.test.readouts, session.checkpoint.arch.width),
            num_classes=len(images.train.classes),
            seed=self.recipe.seed,
            device=self.device,
        )

    def run(self) -> Result:
        """Train, choose, measure."""
        rates = ", ".join(f"{self.plan.scaled(rate):g}" for rate in self.recipe.probe.base_lrs)
        say(
            f"linear probe: {self.recipe.probe.heads} heads, batch {self.plan.batch_size}, "
            f"{self.plan.total_steps} steps, learning rates in use {rates}"
        )
        train = self._train_on_images if self.recipe.augments else self._train_on_features
        return self._record(*train())

    def _train_on_features(self) -> tuple[Readouts, str]:
        stored = self.stored["train"] = self.session.features(self.images.train)
        features = self._read(stored)
        batches = StoredFeatures(
            features=features,
            labels_M=stored.labels_N,
            rows_K=self.fitted,
            batch_size=self.plan.batch_size,
            seed=self.recipe.seed,
            device=self.device,
        )
        train_probe(self.probe, batches, self.trained, device=self.device)
        rows = torch.from_numpy(self.chosen_on)
        return {name: values[rows] for name, values in features.items()}, "as evaluated"

    def _train_on_images(self) -> tuple[Readouts, str]:
        checkpoint, pixels = self.session.checkpoint, self.recipe.pixels
        model = checkpoint.backbone(img_size=pixels.img_size).to(self.device)
        places = {name: readout_names(model).index(name) for name in self.recipe.probe.reads}

        def read(images: Tensor) -> Readouts:
            features_NRD = read_out(model, checkpoint.normalise(images))
            return {name: features_NRD[:, place] for name, place in places.items()}

        batches = AugmentedImages(
            read=read,
            folder=self.images.train.part(self.fitted),
            pixels=pixels,
            batch_size=self.plan.batch_size,
            seed=self.recipe.seed,
            device=self.device,
            num_workers=self.recipe.num_workers,
        )
        with at_precision(self.recipe.precision, model, self.device):
            train_probe(self.probe, batches, self.trained, device=self.device)
        held_out: Readouts = {}
        if len(self.chosen_on):
            part = self.images.train.part(self.chosen_on)
            stored = self.stored["held_out"] = self.session.features(part)
            held_out = self._read(stored)
        return held_out, _seen_in_training(pixels)

    def _read(self, stored: Features) -> Readouts:
        return {name: stored.tensor(name) for name in self.recipe.probe.reads}

    def _record(self, held_out: Readouts, seen: str) -> Result:
        session, images = self.session, self.images
        truth_M, truth_K = (torch.from_numpy(f.labels_N) for f in (images.test, images.train))
        choice = choose_head(
            self.probe,
            (self._read(self.test), truth_M),
            (held_out, truth_K[torch.from_numpy(self.chosen_on)]) if len(self.chosen_on) else None,
        )
        details = {**images.details, **feature_details(**self.stored)}
        details |= {"grid": choice.rows, "chosen": choice.row}
        artifacts = {"classifier": TASK.leaves}
        read = self.session.checkpoint.features or choice.head.readout
        if read != FOLDABLE:
            artifacts = {}
            details["classifier"] = f"none: timm's ViTs put no head on {read}"
        (result,) = session.measure(
            TASK,
            protocol=self._protocol(),
            data=images.test.describe(),
            train=images.train.describe(),
            settings={
                **self.test.settings,
                **probe_settings(self.recipe.probe, self.plan),
                **images.settings,
                "training_images": seen,
                "selection": self._selection(),
            },
            evidence=classified(images.test, choice.logits_MC),
            details=details,
            artifacts=artifacts,
        )
        if artifacts:
            self._write_classifier(choice.head, result)
        return result

    def _write_classifier(self, head: Head, result: Result) -> None:
        request, checkpoint = self.session.request, self.session.checkpoint
        write_classifier(
            request.out / TASK.leaves,
            checkpoint,
            head,
            img_size=self.recipe.pixels.img_size,
            method=request.method or checkpoint.method,
            provenance={
                "task": TASK.name,
                "protocol": self._protocol(),
                "classifier": self._kind(head),
                "parent": checkpoint.info.digest,
                "command": request.command,
                "recipe": to_dict(self.recipe),
                "classes": list(self.images.train.classes),
            },
            stage=result.as_stage(
                epochs=self.plan.total_steps * self.plan.batch_size / len(self.fitted)
            ),
        )

    def _kind(self, head: Head) -> str:
        """What a measurement of the classifier says of it; no seed."""
        words = [f"linear probe on {readout_words(head.readout, self.session.checkpoint)}"]
        if self.recipe.labels:
            words.append(f"{len(self.images.train)} listed labels")
        elif self.recipe.fraction < 1:
            words.append(f"{self.recipe.fraction:.3g} of each class's labels")
        return ", ".join(words)

    def _selection(self) -> str:
        if self.recipe.probe.heads == 1:
            return "one head"
        if self.recipe.selection == "evaluated":
            return "best of grid on the evaluated images"
        return f"best of grid on {HELD_OUT:.0%} of each class's training images, held out"

    def _protocol(self) -> str:
        probe, heads = self.recipe.probe, self.recipe.probe.heads
        length = f"{probe.steps} steps" if probe.steps else f"{probe.epochs} epochs"
        words = (
            f"{'batch norm + ' if probe.batch_norm else ''}linear on frozen "
            + (
                readout_words(probe.readouts[0], self.session.checkpoint)
                if len(probe.readouts) == 1
                else "readouts"
            ),
            f"{probe.optimizer.upper()}, {length} of batch {self.plan.batch_size}",
            "crops and flips" if self.recipe.augments else "no augmentation",
            self.images.words,
            "" if heads == 1 else f"{heads} heads, {self._selection()}",
            f"{self.recipe.pixels.img_size} px",
        )
        return ", ".join(word for word in words if word)

    def _run(self) -> Run:
        checkpoint = self.session.checkpoint
        backbone = (checkpoint.info.digest, checkpoint.content.branch, str(checkpoint.arch))
        return Run(
            self.session.request.out,
            self.recipe,
            digests={
                "train_digest": self.images.train.part(self.fitted).digest,
                "checkpoint_digest": digest_json(backbone),
            },
            measurement=self.session.measurement,
        )


def _seen_in_training(pixels: Pixels) -> str:
    low, high = pixels.crop_scale
    crop = (
        "as evaluated" if low == 1 else f"random crops of {low:g} to {high:g} of the area, bicubic"
    )
    return f"{crop}{', half of them mirrored' if pixels.flip else ''}, new in each epoch"
