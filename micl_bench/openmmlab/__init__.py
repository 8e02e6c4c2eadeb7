"""Dense downstream tasks through mmsegmentation and mmdetection; nothing else imports OpenMMLab.

`custom_imports = dict(imports=["micl_bench.openmmlab"])` in any config of theirs gives it `MiCLViT` and
working operators, whether or not mmcv's were compiled.
"""

from micl_bench.runtime.errors import InputError

try:
    import mmcv  # noqa: F401
    import mmengine  # noqa: F401
except ImportError as error:
    raise InputError(
        f"segmentation and detection need the OpenMMLab packages ({error}): "
        "pip install 'micl-bench[openmmlab]'"
    ) from error

from micl_bench.openmmlab import operators, packages

# Before anything imports mmcv.ops or mmdet.
operators.install()
packages.find_configs()

from micl_bench.openmmlab import agreement, norm, optim, precision  # noqa: E402, F401  (registers them)
from micl_bench.openmmlab.outcome import Outcome  # noqa: E402
from micl_bench.openmmlab.runner import run  # noqa: E402
from micl_bench.openmmlab.vit import MiCLViT  # noqa: E402

__all__ = ["MiCLViT", "Outcome", "run"]
