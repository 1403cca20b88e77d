"""The golden numbers in `fixtures/golden/centernet2/`."""

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.paths import data_path


@cache
def _stored(file: str) -> dict[str, NDArray[Any]]:
    with np.load(data_path("fixtures", "golden", "centernet2", file)) as stored:
        return dict(stored)


def golden(file: str, key: str) -> torch.Tensor:
    """Return an array of ``pieces.npz`` or ``narrow_stages.npz``."""
    return torch.from_numpy(_stored(file)[key].copy())


@cache
def golden_figures(file: str) -> Any:  # noqa: ANN401 - figures by names
    """Return the figures of a JSON file."""
    return json.loads(data_path("fixtures", "golden", "centernet2", file).read_text(encoding="utf-8"))


def equal_but_for_rounding(found: torch.Tensor, expected: torch.Tensor, share: float = 1e-6) -> bool:
    """Tell whether values are equal to within a share of the largest."""
    if found.shape != expected.shape:
        return False
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    return expected.numel() == 0 or float((found - expected).abs().max()) <= share * largest
