"""Parameters of a mistake that are found by trying: Levenberg and Marquardt's method with differences for slopes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.faults.base import Fault, Params
from harness.faults.diagnosis.evidence import Evidence
from harness.faults.diagnosis.predict import Chain
from harness.faults.forms import Forms

Vector = NDArray[np.float64]

VALUES = 20000
"""Of a difference that enter: every n-th."""
STEP = 1e-3
ROUNDS = 25
PATIENCE = 4
"""Rounds in which the error is halved, or else there is nothing to be found."""
STARTS = 4
ENOUGH = 0.25
"""Mean square of the differences, in units of what they may be, that needs no other start."""


@dataclass(frozen=True)
class Fit:
    """The search for the parameters of one mistake.

    Attributes:
        chain: The reference.
        evidence: What came.
        index: The image to look at.
        fault: The mistake.
        end: On the monotonic clock, when to be content with what is found.
        part: What of the evidence to look at, where another mistake may have spoilt the rest; None for everything.
        base: What the port does besides.
    """

    chain: Chain
    evidence: Evidence
    index: int
    fault: Fault
    end: float
    part: str | None = None
    base: Forms = field(default_factory=Forms)

    def begun(self, starts: Sequence[Params]) -> list[tuple[float, Params]]:
        """How far what parameters give is from what came, closest first; none where differences make no sense."""
        found: list[tuple[float, Params]] = []
        for start in starts:
            if found and time.monotonic() > self.end:
                break
            values = self._off(np.array(start))
            if values is None:
                return []
            found.append((float(values @ values), start))
        return sorted(found)

    def fitted(self, starts: Sequence[Params]) -> Params | None:
        """The parameters that come closest to what came; None where differences make no sense.

        Args:
            starts: Parameters to begin at; the best few are taken.
        """
        ends: list[tuple[float, Params]] = []
        for _, start in self.begun(starts)[:STARTS]:
            ends.append(self.descended(start))
            if ends[-1][0] <= ENOUGH * VALUES or time.monotonic() > self.end:
                break
        return min(ends)[1] if ends else None

    def descended(self, start: Params, rounds: int = ROUNDS) -> tuple[float, Params]:
        """How far what came is from what some rounds of the search lead to, and the parameters there."""
        error, params = _descend(self._off, np.array(start), rounds, self.end)
        return error, tuple(params.tolist())

    def _off(self, params: Vector) -> Vector | None:
        forms = self.fault.apply(self.base, tuple(params.tolist()))
        values = self.evidence.difference(self.chain, forms, self.index, self.part)
        return None if values is None else values[:: max(1, len(values) // VALUES)]


def _descend(off: Callable[[Vector], Vector | None], params: Vector, rounds: int, end: float) -> tuple[float, Vector]:
    values = off(params)
    assert values is not None
    error, damping = float(values @ values), 1e-3
    errors = [error]
    for _ in range(rounds):
        if time.monotonic() > end or (len(errors) > PATIENCE and error > errors[-1 - PATIENCE] / 2):
            break
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
        params, values, error, damping = moved, tried, better, damping / 10
        errors.append(error)
    return error, params


def _slope(off: Callable[[Vector], Vector | None], params: Vector, values: Vector, axis: int) -> Vector:
    moved = params.copy()
    moved[axis] += STEP
    there = off(moved)
    assert there is not None
    slope: Vector = (there - values) / STEP
    return slope
