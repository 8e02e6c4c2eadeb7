"""Where configs of the libraries themselves are found: `_base_ = "mmseg::_base_/models/upernet_r50.py"`.

mmengine looks for them in the distribution `mmsegmentation`; the maintained fork has another name.
"""

from importlib import metadata

from mmengine.config import utils

_FORKS = {"mmseg": ("mmsegmentation", "onedl-mmsegmentation")}


def find_configs() -> None:
    """Let `mmseg::` lead to the fork's configs, unless the upstream package is installed."""
    for module, (upstream, fork) in _FORKS.items():
        if _is_installed(fork) and not _is_installed(upstream):
            utils.MODULE2PACKAGE[module] = fork


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
