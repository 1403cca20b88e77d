"""Arithmetic of the largest difference that a head may have from the reference's.

    allowed = factor x unit round-off x sqrt(accumulation length) x scale

with factor and round-off from ``harness/cards/tolerances.toml``. The scale is the largest magnitude of the head in a
float64 run of the same network, or, where the network amplifies rounding beyond that, the magnitude that explains
float32's own error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.cards.tolerances import Tolerance
from harness.types import Heads


def head_scales(heads32: Heads, second: Heads, tolerance: Tolerance, length: int) -> dict[str, float]:
    """Scale of each head.

    Args:
        heads32: The reference in float32.
        second: The same network and input in float64; of an ONNX without weights, in another order of operations.
        tolerance: That of float32.
        length: Accumulation length.
    """
    assert tolerance.unit_roundoff is not None
    scales = {}
    for name, head in heads32.items():
        own_error = float(np.abs(head - second[name]).max())
        scales[name] = max(float(np.abs(second[name]).max()), own_error / (tolerance.unit_roundoff * math.sqrt(length)))
    return scales


def amplification(heads32: Heads, second: Heads, tolerance: Tolerance, length: int) -> float:
    """Factor by which float32's own error exceeds what the magnitude of the heads explains; at least 1.

    Args:
        heads32: As in `head_scales`, and so are the others.
        second: The second opinion.
        tolerance: That of float32.
        length: Accumulation length.
    """
    scales = head_scales(heads32, second, tolerance, length)
    magnitudes = {name: float(np.abs(head).max()) for name, head in second.items()}
    return max(1.0, *(scales[name] / magnitude for name, magnitude in magnitudes.items() if magnitude))


def allowed_differences(
    tolerance: Tolerance, length: int, scales: Sequence[Mapping[str, float]], golden: Heads, rounded: Heads | None
) -> dict[str, float]:
    """Largest absolute difference of each head; infinite where the precision has no derivable tolerance.

    Args:
        tolerance: That of the port's precision.
        length: Accumulation length.
        scales: Several estimates of each head's scale, of which the largest counts.
        golden: The golden heads.
        rounded: Heads of the reference with its parameters rounded; None where the port stores them as they are.
    """
    limits = {name: tolerance.allowed(length, max(some[name] for some in scales)) for name in scales[0]}
    if rounded is not None:
        for name, head in rounded.items():
            limits[name] += float(np.abs(head - golden[name]).max())
    return limits


def moved(heads: Heads, golden: Heads) -> dict[str, float]:
    """Largest absolute difference of each head from the golden one."""
    return {name: float(np.abs(values - golden[name]).max()) for name, values in heads.items()}
