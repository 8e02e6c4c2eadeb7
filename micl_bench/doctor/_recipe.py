"""A data folder against the config of a dense task: the checks that `eval` makes before it trains."""

from pathlib import Path

from micl_bench.doctor._finding import Finding, of_fault, ok, problem, warning
from micl_bench.runtime.errors import InputError

# Nothing of it is loaded.
_ANY_CHECKPOINT = "random:vit_small_patch16_224"


def check_for_recipe(folder: Path, recipe: Path) -> list[Finding]:
    """Whether `eval ade20k|coco` would take the folder with this config.

    Both splits are read whole, validation images are decoded.
    """
    subject = str(folder)
    try:
        from micl_bench.openmmlab.configs import resolve
        from micl_bench.openmmlab.data_checks import check
        from micl_bench.openmmlab.isolation import blaming
    except (ImportError, InputError) as error:
        fix = "pip install 'micl-bench[openmmlab]'"
        return [warning(subject, f"segmentation and detection are not checked: {error}", fix)]
    try:
        with blaming(recipe.name, "cannot be used"):
            config = resolve(
                recipe, checkpoint=_ANY_CHECKPOINT, data=folder, seed=None, overrides=()
            )
            found = check(config)
    except (InputError, OSError) as error:
        return [problem(subject, str(error), "give a folder and a config that fit each other")]
    findings = [of_fault(subject, fault) for fault in found.faults]
    findings += [
        warning(subject, line, "give them the names that the config reads, or remove them")
        for line in found.left_out.values()
    ]
    if not found.failed:
        truth = ", ".join(f"{name} {value:g}" for name, value in found.truth.items())
        sizes = " and ".join(f"{number:,}" for number in found.images.values())
        text = f"fits {recipe}: {sizes} images to train on and measure; its truth has {truth}"
        findings.insert(0, ok(subject, text))
    return findings
