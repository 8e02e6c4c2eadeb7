"""The pre-training loop. What it leaves in its folder:

recipe.json      the resolved recipe and data, compared before a run goes on
metrics.jsonl    a line a step (loss, rate, images/s, time left), a line a k-NN check
views.npz        some held-out images and what each view sees of them
training.pt      everything needed to go on
backbone.pt      the result: weights, architecture, provenance
pretrain-*.json  the record of the finished run
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from timm.models import VisionTransformer

from micl_bench.backbone import Arch, class_features, init_mae_
from micl_bench.checkpoints import save_checkpoint
from micl_bench.config import digest, to_dict
from micl_bench.data.folder import open_folder, read_image
from micl_bench.data.pixels import evaluation_pixels, normalise
from micl_bench.data.stream import Batch, image_rng, steps_per_epoch, training_batches
from micl_bench.engine.features import run_over_folder
from micl_bench.engine.knn import knn_scores, top1
from micl_bench.engine.optim import build_optimizer, learning_rate, set_rate
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.engine.resume import Position, restore_training, save_training
from micl_bench.errors import InputError
from micl_bench.files import atomic_path, atomic_write
from micl_bench.log import MetricLog, Progress, say
from micl_bench.objectives.micl import MiCL
from micl_bench.provenance import Measurement
from micl_bench.record import CheckpointInfo, Result, visible_path, write_result

METHOD = "MiCL"
BACKBONE_FILE = "backbone.pt"
_NUM_SHOWN = 6


class Pretrainer:
    """Trains one backbone on `<data>/train` and watches it on `<data>/val`."""

    def __init__(self, recipe: PretrainRecipe, *, data: Path, out: Path, command: str) -> None:
        """Open data and folder, build model and optimiser, go on from the last saved state.

        Raises:
            InputError: bad data, or `out` holds a run of another recipe or of other data.
        """
        self.recipe, self.out = recipe, out
        self.measurement = Measurement(command=command)
        self.train = open_folder(data / "train")
        self.held_out = open_folder(data / "val", classes=self.train.classes)
        self.per_epoch = steps_per_epoch(self.train, recipe.batch_size)
        self.total_steps = recipe.epochs * self.per_epoch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.arch = recipe.sized_arch()
        self.model = _initial_model(self.arch, recipe.seed).to(self.device)
        self.objective = MiCL(recipe.objective)
        self.optimizer = build_optimizer(self.model, recipe.optim)
        self._claim_folder()
        self.position = restore_training(self._state_path, self.model, self.optimizer)

    def run(self) -> Path:
        """Train to the end and write the record, whose path is returned.

        Interrupted anywhere, the same call goes on from the last saved step; finished, it returns
        at once.
        """
        done = sorted(self.out.glob("pretrain-*.json"))
        if done and (self.out / BACKBONE_FILE).exists():
            say(f"{self.out} holds a finished run; nothing to do")
            return done[-1]
        if self.position.step:
            say(f"going on from step {self.position.step} of {self.total_steps}")
        metrics = MetricLog(
            self.out / "metrics.jsonl",
            first_step=self.position.step + 1 if self.position.step else 0,
        )
        if self.position.step == 0:
            self._save_views()
            self._check_knn(metrics, step=0)
        self._train(metrics)
        return write_result(self._finish(metrics), self.out)

    def _train(self, metrics: MetricLog) -> None:
        first, started = self.position, time.monotonic()
        with Progress("pre-training", total=self.total_steps, done=first.step) as progress:
            for batch in self._batches(first.step):
                row = self._train_step(batch)
                step = self.position.step + 1
                self.position = Position(step, first.seconds + time.monotonic() - started)
                speed = self.recipe.batch_size * step / self.position.seconds
                progress.step(f"loss {row['loss']:.3f}  {speed:.0f} images/s")
                row |= {"images_per_second": speed, "seconds_left": progress.seconds_left}
                metrics.write({"step": step, "epoch": step / self.per_epoch, **row})
                if self._knn_due(step):
                    self._check_knn(metrics, step=step)
                if step % self.recipe.save_every_steps == 0 or step == self.total_steps:
                    save_training(self._state_path, self.model, self.optimizer, self.position)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        rate = learning_rate(
            self.position.step,
            peak=self.recipe.optim.base_lr * self.recipe.batch_size / 256,
            warmup_steps=round(self.recipe.optim.warmup_epochs * self.per_epoch),
            total_steps=self.total_steps,
        )
        set_rate(self.optimizer, rate)
        images_NCHW = normalise(batch.images.to(self.device))
        keep_NVK = self.objective.views(batch.noise.to(self.device))
        output = self.objective(self.model, images_NCHW, keep_NVK)
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        if self.recipe.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip_norm)
        self.optimizer.step()
        loss = output.loss.item()
        if not np.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {self.position.step + 1}; the last saved state in "
                f"{self.out} is untouched; lower optim.base_lr"
            )
        return {"loss": loss, "lr": rate}

    def _batches(self, first_step: int) -> Iterator[Batch]:
        return training_batches(
            self.train,
            self.recipe.pixels,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            steps=range(first_step, self.total_steps),
            num_noise=self.arch.num_patches,
            num_workers=self.recipe.num_workers,
        )

    def _knn_due(self, step: int) -> bool:
        every = self.recipe.knn_every_epochs * self.per_epoch
        return bool(every) and (step % every == 0 or step == self.total_steps)

    def _check_knn(self, metrics: MetricLog, *, step: int) -> None:
        if not self.recipe.knn_every_epochs:
            return
        self.model.eval()
        features = [
            run_over_folder(
                lambda images: class_features(self.model, images),
                folder,
                self.recipe.pixels,
                device=self.device,
                num_workers=self.recipe.num_workers,
            )
            for folder in (self.train, self.held_out)
        ]
        self.model.train()
        (train_ND, labels_N), (test_MD, truth_M) = features
        k = min(self.recipe.knn_k, len(train_ND))
        accuracy = top1(knn_scores(train_ND, labels_N, test_MD, k=k), truth_M)
        metrics.write({"step": step, "epoch": step / self.per_epoch, "knn_top1": accuracy})

    def _save_views(self) -> None:
        chosen = np.linspace(0, len(self.held_out) - 1, _NUM_SHOWN).astype(int).tolist()
        images = [
            evaluation_pixels(read_image(self.held_out.paths[i]), self.recipe.pixels)
            for i in chosen
        ]
        noise = [image_rng(self.recipe.seed, 0, i).random(self.arch.num_patches) for i in chosen]
        keep_NVK = self.objective.views(torch.from_numpy(np.stack(noise)))
        with atomic_path(self.out / "views.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                images_NHWC=torch.stack(images).permute(0, 2, 3, 1).numpy(),
                keep_NVK=keep_NVK.numpy(),
                patch_size=np.array(self.arch.patch_size),
            )

    def _finish(self, metrics: MetricLog) -> Result:
        metrics.close()
        rows = metrics.rows()
        last = [row for row in rows if "loss" in row][-1]
        measured = {"loss": last["loss"], "images_per_second": last["images_per_second"]}
        if checks := [row["knn_top1"] for row in rows if "knn_top1" in row]:
            measured["knn_top1"] = checks[-1]
        recipe = to_dict(self.recipe)
        path = self.out / BACKBONE_FILE
        provenance = {
            "recipe": recipe,
            "recipe_digest": digest(self.recipe),
            "command": self.measurement.command,
            "steps": self.total_steps,
            "train_digest": self.train.digest,
        }
        file_digest = save_checkpoint(
            path, self.model, self.arch, method=METHOD, provenance=provenance
        )
        return self.measurement.result(
            task="pretrain",
            protocol=f"{self.recipe.epochs} epochs of {self.train.describe().name}, mask ratio "
            f"{self.recipe.objective.mask_ratio}, batch {self.recipe.batch_size}",
            method=METHOD,
            arch=self.arch.name,
            metrics=measured,
            data=self.train.describe(),
            checkpoint=CheckpointInfo(
                source=visible_path(path), format="micl_bench", digest=file_digest
            ),
            recipe=recipe,
            seed=self.recipe.seed,
            artifacts={"metrics": "metrics.jsonl", "views": "views.npz"},
            seconds=self.position.seconds,
        )

    @property
    def _state_path(self) -> Path:
        return self.out / "training.pt"

    def _claim_folder(self) -> None:
        claim = {"recipe": to_dict(self.recipe), "train_digest": self.train.digest}
        text = json.dumps(claim, indent=2) + "\n"
        path = self.out / "recipe.json"
        # Before the first saved state there is nothing that another recipe could spoil.
        if not self._state_path.exists() and not (self.out / BACKBONE_FILE).exists():
            atomic_write(path, text.encode())
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise InputError(
                f"{self.out} holds a run of another recipe or other data; give another --out, or "
                "remove it"
            )


def _initial_model(arch: Arch, seed: int) -> VisionTransformer:
    model = arch.build()
    init_mae_(model, generator=torch.Generator().manual_seed(seed))
    return model.train()
