"""Robustness: a classifier on shifted test sets, and the drop against the clean set's same classes."""

import dataclasses

import torch
from torch import Tensor

from micl_bench import plugins
from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.engine.features import run_over_folder
from micl_bench.engine.knn import top1
from micl_bench.errors import InputError
from micl_bench.record import Result
from micl_bench.robustness import RobustnessSet
from micl_bench.tasks._request import Request, Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessRecipe:
    """Which sets, and the input."""

    sets: tuple[str, ...] = ("embedded_a", "embedded_r", "embedded_sketch")
    """File names in `micl_bench/robustness/`."""
    pixels: Pixels = Pixels()
    batch_size: int = 128
    num_workers: int = 0
    seed: int = 0


def run(request: Request) -> list[Result]:
    """One record a set: top-1 there, on the clean set's same classes, and the difference.

    Raises:
        InputError: bad recipe or data, or a checkpoint without a head for the clean set's classes.
    """
    session = Session(request, RobustnessRecipe)
    sets: list[RobustnessSet] = [plugins.find("robustness", s).SET for s in session.recipe.sets]
    if not sets:
        raise InputError(
            "the recipe names no set; give sets=[...] from `micl-bench list robustness`"
        )
    side = session.checkpoint.arch.img_size
    if session.recipe.pixels.img_size != side:
        raise InputError(f"the classifier takes {side} px; give --set pixels.img_size={side}")
    # Outputs are matched with folders by class name where the file tells the names.
    known = session.checkpoint.classes or None
    folders = [_open_clean_and_shifted(request, one, known) for one in sets]
    num_classes = {len(clean.classes) for clean, _ in folders}
    if len(num_classes) != 1:
        raise InputError("the sets have clean sets of different classes; evaluate them one by one")
    model = session.checkpoint.classifier(num_classes=num_classes.pop()).to(session.device)
    # The sets share few clean sets: each is run once.
    logits: dict[Folder, tuple[Tensor, Tensor]] = {}
    for clean, shifted in folders:
        for folder in (clean, shifted):
            if folder not in logits:
                logits[folder] = run_over_folder(
                    lambda images: model(session.checkpoint.normalise(images)),
                    folder,
                    session.recipe.pixels,
                    device=session.device,
                    batch_size=session.recipe.batch_size,
                    num_workers=session.recipe.num_workers,
                    label=f"robustness, {folder.describe().name}",
                )
    protocol = (
        "fine-tuned classifier; largest logit among the set's own classes; drop against the clean "
        f"images of the same classes; {session.recipe.pixels.img_size} px"
    )
    return [
        session.result(
            task="robustness",
            protocol=protocol,
            settings={"protocol": protocol},
            metrics=compare(logits[clean], logits[shifted]),
            data=dataclasses.replace(shifted.describe(), name=one.title),
        )
        for one, (clean, shifted) in zip(sets, folders, strict=True)
    ]


def compare(clean: tuple[Tensor, Tensor], shifted: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Top-1 in percent and its drop, each a pair of logits_NC and labels_N.

    Both sides are held to the classes that occur in the shifted set: images of others are left
    out of the clean set, and the largest logit is searched among these classes only (the reading of
    the authors of ImageNet-A and -R).
    """
    clean_logits_NC, clean_labels_N = clean
    logits_MC, labels_M = shifted
    classes = labels_M.unique()
    kept = torch.isin(clean_labels_N, classes)
    shifted_top1 = top1(_only(logits_MC, classes), labels_M)
    clean_top1 = top1(_only(clean_logits_NC[kept], classes), clean_labels_N[kept])
    return {
        "top1": shifted_top1,
        "clean_top1": clean_top1,
        "drop": clean_top1 - shifted_top1,
    }


def _only(logits_NC: Tensor, classes: Tensor) -> Tensor:
    masked_NC = torch.full_like(logits_NC, float("-inf"))
    masked_NC[:, classes] = logits_NC[:, classes]
    return masked_NC


def _open_clean_and_shifted(
    request: Request, one: RobustnessSet, known: tuple[str, ...] | None
) -> tuple[Folder, Folder]:
    clean = open_folder(request.data / one.clean, classes=known)
    return clean, open_folder(request.data / one.folder, classes=clean.classes)
