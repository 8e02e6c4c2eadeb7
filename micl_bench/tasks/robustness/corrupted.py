"""ImageNet-C: mean corruption error, and how sure it is."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.statistics import bootstrap, wilson
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.wording import counted
from micl_bench.tasks.robustness.scores import CleanRun, Measured
from micl_bench.tasks.robustness.shifted import Classifier, Shift, open_classes


def corruption_errors(
    right_NKS: NDArray[np.bool_], reference: Sequence[float]
) -> NDArray[np.float64]:
    """CE_nk in percent, whose mean over images and corruptions is mCE.

    CE_k is 100 times the error summed over severities, by the reference's sum (Hendrycks and
    Dietterich, arXiv 1903.12261, section 4.1). Errors are means over images, so it is a mean of
    these too.

    Args:
        right_NKS: by image, corruption and severity.
        reference: the reference's mean error over severities, in percent, by corruption.
    """
    error_NK = 100 * (1 - right_NKS.mean(axis=2))
    return 100 * error_NK / np.asarray(reference)


def measure_corrupted(
    shift: Shift, clean: CleanRun, classifier: Classifier, pixels: Pixels, root: Path, *, seed: int
) -> Measured:
    """Read every corruption and severity, and hold them against the clean images they were made of.

    `top1` is the mean over corruptions and severities.

    Raises:
        InputError: an unreadable image, or folders that do not hold the same images.
    """
    one, reading = shift.one, shift.readings["top1"]
    said: dict[str, NDArray[np.int64]] = {}
    digests: dict[str, str] = {}
    first = open_classes(root / one.parts[0], shift.folders)
    for part in one.parts:
        place, folder = f"{part.parent.name}/{part.name}", open_classes(root / part, shift.folders)
        _require_same(folder.names, first)
        label = f"robustness, {one.title} {place}"
        said[place] = classifier.predict(folder, pixels, [reading], label=label)[reading]
        digests[place] = folder.digest
    truth_N = shift.output_K[first.labels_N]
    right = {place: said_N == truth_N for place, said_N in said.items()}
    clean = _of_same_images(clean, first)
    clean_N = clean.predicted[reading] == clean.output_N
    right_NKS = np.stack(list(right.values()), axis=1).reshape(len(first), -1, one.severities)
    described = first.describe()
    # An image with all that was made of it is one draw of the bootstrap.
    top1_N = 100 * right_NKS.mean(axis=(1, 2))
    drop_N = 100 * clean_N - top1_N
    clean_top1 = float((100 * clean_N).mean())
    return Measured(
        data=dataclasses.replace(
            described,
            name=one.title,
            split="all",
            images=len(first) * len(said),
            digest=digest_json(digests),
        ),
        clean=clean.folder.describe(),
        predictions=Predictions(
            files=first.names,
            classes=shift.outputs,
            labels_M=truth_N,
            predicted={_metric(place): said_N for place, said_N in said.items()},
            correct={_metric(place): right_N.astype(np.int8) for place, right_N in right.items()},
            scores={
                "mCE": corruption_errors(right_NKS, list(one.corruptions.values())).mean(axis=1),
                "top1": top1_N,
            },
        ),
        metrics={"clean_top1": clean_top1, "drop": float(drop_N.mean())},
        intervals={
            "clean_top1": wilson(clean_top1, len(clean_N)),
            "drop": bootstrap(_mean, [drop_N], seed=seed),
        },
        details=_details(right_NKS, one.corruptions),
    )


def _details(right_NKS: NDArray[np.bool_], corruptions: Mapping[str, float]) -> dict[str, Any]:
    top1_KS = 100 * right_NKS.mean(axis=0)
    error_K = corruption_errors(right_NKS, list(corruptions.values())).mean(axis=0)
    return {
        "top1_by_corruption": dict(zip(corruptions, top1_KS.mean(axis=1).tolist(), strict=True)),
        "top1_by_severity": dict(zip(corruptions, top1_KS.tolist(), strict=True)),
        "corruption_error": dict(zip(corruptions, error_K.tolist(), strict=True)),
    }


def _require_same(names: tuple[str, ...], first: Folder) -> None:
    others = sorted(set(names) ^ set(first.names))
    if others:
        raise InputError(
            f"the folders of corruptions and severities do not hold the same images: {others[0]} is not "
            f"in each, {first.root} among them; unpack the release anew"
        )


def _of_same_images(clean: CleanRun, first: Folder) -> CleanRun:
    """The clean images that the corrupted ones were made of, in the same order."""
    row = {name: number for number, name in enumerate(clean.folder.names)}
    absent = [name for name in first.names if name not in row]
    if absent:
        raise InputError(
            f"{clean.folder.root} lacks {counted(len(absent), 'image')} that {first.root} was made of: "
            f"{', '.join(absent[:3])}"
        )
    return clean.rows([row[name] for name in first.names])


def _metric(place: str) -> str:
    return f"top1_{place.replace('/', '_')}"


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())
