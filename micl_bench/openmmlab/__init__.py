"""Dense downstream tasks through mmsegmentation and mmdetection; nothing else imports OpenMMLab.

`custom_imports = dict(imports=["micl_bench.openmmlab"])` in any config of theirs gives it `MiCLViT` and
working operators, whether or not mmcv's were compiled.
"""

from importlib import metadata

from micl_bench.runtime.errors import InputError

try:
    import mmcv  # noqa: F401
    from mmengine.config import utils
except ImportError as error:
    raise InputError(
        f"segmentation and detection need the OpenMMLab packages ({error}): "
        "pip install 'micl-bench[openmmlab]'"
    ) from error

from micl_bench.openmmlab import operators


def find_configs() -> None:
    """Let `mmseg::` lead to the configs of the maintained fork, unless upstream is installed."""
    try:
        metadata.version("mmsegmentation")
    except metadata.PackageNotFoundError:
        utils.MODULE2PACKAGE["mmseg"] = "onedl-mmsegmentation"


# Before anything imports mmcv.ops or mmdet.
operators.install()
find_configs()

from micl_bench.openmmlab import agreement, optim, precision  # noqa: E402, F401  (registers them)
from micl_bench.openmmlab.runner import Outcome, run  # noqa: E402
from micl_bench.openmmlab.vit import MiCLViT  # noqa: E402

__all__ = ["MiCLViT", "Outcome", "run"]
