"""Network inputs of a port against the suite's own, in grey levels of the image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.checks.comparison import Comparison
from harness.types import Float64

GREY_LEVELS = 1.5
"""Largest difference of right inputs: two programs that interpolate round to the same grey level or to the next, and
one of them in steps of its own (OpenCV: 1/32 of a pixel)."""


def grey_levels(card: ModelCard, theirs: NDArray[Any], own: NDArray[np.generic]) -> Float64:
    """Difference of two network inputs of one image, value by value, in grey levels of the 0..255 pixel.

    Args:
        card: The contract of the model; a grey level is ``scale / std`` of the channel.
        theirs: (3, H, W) or (H, W, 3) as the card says.
        own: Likewise.
    """
    level = np.array([card.input.scale / std for std in card.input.std])
    level = level.reshape((3, 1, 1) if card.input.layout == "NCHW" else 3)
    difference: Float64 = (theirs.astype(np.float64) - own.astype(np.float64)) / level
    return difference


def judge_input(card: ModelCard, theirs: NDArray[Any], own: NDArray[np.generic], label: str) -> Comparison:
    """Compare the network input that a port made of an image with the suite's own."""
    difference = np.abs(grey_levels(card, theirs, own))
    difference = np.where(np.isfinite(difference), difference, math.inf)
    measured, share = float(difference.max()), float((difference > GREY_LEVELS).mean())
    problem = None if measured <= GREY_LEVELS else f"{share:.1%} of the values are beyond, in grey levels"
    return Comparison(f"{label}, input", measured, GREY_LEVELS, own.size, problem)
