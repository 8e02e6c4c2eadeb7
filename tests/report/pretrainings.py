"""A store of pre-trainings of several settings, seeds and costs, each evaluated by k-NN and linear."""

from typing import Any

from synthetic_results import recorded, result

from micl_bench.records.result import Result
from micl_bench.records.weights import Stage
from micl_bench.report.frame.selection import Selection, select
from micl_bench.runtime.files import digest_json

CPU = {"cores": "2", "processor": "a processor", "device": "cpu"}
A100 = {"gpus": "NVIDIA A100-SXM4-80GB", "device": "cuda"}


class Trainings:
    """Collects records; each call adds one pre-training and its evaluations."""

    def __init__(self) -> None:
        self.records: list[Result] = []

    def add(
        self,
        top1: float,
        *,
        seed: int = 0,
        hours: float = 1.0,
        method: str = "MiCL",
        environment: dict[str, str] = CPU,
        data: dict[str, Any] | None = None,
        epochs: int = 10,
        arch: str = "vit_tiny_patch8",
        **objective: Any,
    ) -> None:
        """Settings are those of `objective` over mask ratio 0.5, two views and device negatives."""
        chosen = {"mask_ratio": 0.5, "num_views": 2, "negatives": "device", **objective}
        settings = {"task": "pretrain", "objective": chosen, "batch_size": 64, "epochs": epochs}
        digest = digest_json([method, settings, seed, environment, hours, top1])
        images = {"name": "images", "split": "train", "images": 1000, "digest": "e" * 64}
        self.records.append(
            result(
                task="pretrain",
                method=method,
                metrics={"loss": 1.0},
                data=images,
                settings=settings,
                seed=seed,
                device_hours=hours,
                environment=environment,
                checkpoint={"digest": digest},
            )
        )
        stage = Stage(
            task="pretrain",
            method=method,
            fingerprint=digest_json(settings),
            seed=seed,
            epochs=float(epochs),
            data="images",
            data_digest="e" * 64,
            settings=settings,
        )
        for task, more in (("knn", 0.0), ("linear", 4.0)):
            self.records.append(
                result(
                    task=task,
                    protocol=f"{task} protocol",
                    method=method,
                    arch=arch,
                    metrics={"top1": top1 + more},
                    settings={"img_size": 224},
                    data=data or {},
                    checkpoint={"digest": digest, "origin": (stage,)},
                )
            )

    @property
    def selection(self) -> Selection:
        """All of them, in the order in which they were added."""
        return select(recorded(self.records))
