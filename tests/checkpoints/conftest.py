"""One file of every layout, and images for its network."""

from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS
from layouts_foreign import FOREIGN
from torch import Tensor


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every layout. Read only."""
    written = LAYOUTS | FOREIGN
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in written.items()}


@pytest.fixture(scope="session")
def images_NCHW() -> Tensor:
    """Of 32 pixels. Read only."""
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
