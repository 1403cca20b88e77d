"""Parameters of a mistake that are found by trying: Levenberg and Marquardt's method with differences for slopes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.faults.base import Fault, Params
from harness.faults.chain import Chain
from harness.faults.evidence import Evidence
from harness.faults.forms import Forms

Vector = NDArray[np.float64]

VALUES = 20000
"""Of a difference that enter: every n-th."""
STEP = 1e-3
ROUNDS = 25
STARTS = 4
ENOUGH = 0.25
"""Mean square of the differences, in units of what they may be, that needs no other start."""


def fitted(
    chain: Chain, evidence: Evidence, index: int, fault: Fault, starts: Sequence[Params], end: float
) -> Params | None:
    """The parameters with which a mistake comes closest to what came; None where differences make no sense.

    Args:
        chain: The reference.
        evidence: What came.
        index: The image to look at.
        fault: The mistake.
        starts: Parameters to begin at; the best few are taken.
        end: On the monotonic clock, when to be content with what is found.
    """

    def off(params: Vector) -> Vector | None:
        values = evidence.difference(chain, fault.apply(Forms(), tuple(params.tolist())), index)
        return None if values is None else values[:: max(1, len(values) // VALUES)]

    begun = []
    for start in starts:
        values = off(np.array(start))
        if values is None:
            return None
        begun.append((float(values @ values), start))
    ends: list[tuple[float, Params]] = []
    for _, start in sorted(begun)[:STARTS]:
        error, params = _descend(off, np.array(start))
        ends.append((error, tuple(params.tolist())))
        if error <= ENOUGH * VALUES or time.monotonic() > end:
            break
    return min(ends)[1]


def _descend(off: Callable[[Vector], Vector | None], params: Vector) -> tuple[float, Vector]:
    values = off(params)
    assert values is not None
    error, damping = float(values @ values), 1e-3
    for _ in range(ROUNDS):
        slopes = np.stack([_slope(off, params, values, axis) for axis in range(len(params))], axis=1)
        normal, gradient = slopes.T @ slopes, slopes.T @ values
        for _ in range(6):
            step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), gradient, rcond=None)[0]
            moved = params - step
            # A deviation of 0 divides by nothing.
            moved = np.where(np.abs(moved) < 1e-3, np.where(params > 0, 1e-3, moved), moved)
            tried = off(moved)
            assert tried is not None
            better = float(tried @ tried)
            if better < error:
                break
            damping *= 8
        else:
            return error, params
        done = error - better < 1e-6 * error
        params, values, error, damping = moved, tried, better, damping / 10
        if done:
            break
    return error, params


def _slope(off: Callable[[Vector], Vector | None], params: Vector, values: Vector, axis: int) -> Vector:
    moved = params.copy()
    moved[axis] += STEP
    there = off(moved)
    assert there is not None
    slope: Vector = (there - values) / STEP
    return slope
