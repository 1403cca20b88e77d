"""Fit of a fault's parameters to the evidence: Levenberg and Marquardt's method with differences for slopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.faults import AnyFault
from harness.faults.diagnosis.evidence import Evidence
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.fault import Params
from harness.faults.port_spec import PortSpec

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Search for the parameters of one fault.

    Attributes:
        chain: The reference.
        evidence: Output of the port.
        index: Of the image to fit on.
        fault: The fault.
        exhausted: Whether the budget of the search is spent.
        part: Part of the evidence to fit, where another fault may have spoilt the rest; None for everything.
        base: The port without this fault.
    """

    chain: Chain
    evidence: Evidence
    index: int
    fault: AnyFault
    exhausted: Callable[[], bool]
    part: str | None = None
    base: PortSpec = field(default_factory=PortSpec)

    def begun(self, starts: Sequence[Params]) -> list[tuple[float, Params]]:
        """Rank starting points by squared error against the evidence.

        Returns:
            Error and parameters, closest first; empty if this evidence has no value-by-value difference.
        """
        found: list[tuple[float, Params]] = []
        for start in starts:
            if found and self.exhausted():
                break
            values = self._off(np.array(start))
            if values is None:
                return []
            found.append((float(values @ values), start))
        return sorted(found)

    def fitted(self, starts: Sequence[Params]) -> Params | None:
        """Fit from the best few starting points, and return the parameters with the smallest error.

        Returns:
            The parameters; None if this evidence has no value-by-value difference.
        """
        ends: list[tuple[float, Params]] = []
        for _, start in self.begun(starts)[: TABLE.fit.starts]:
            ends.append(self.descended(start))
            if ends[-1][0] <= TABLE.fit.enough * TABLE.fit.values or self.exhausted():
                break
        return min(ends)[1] if ends else None

    def descended(self, start: Params, rounds: int = TABLE.fit.rounds) -> tuple[float, Params]:
        """Fit from one starting point, and return the squared error and the parameters reached."""
        error, params = _descend(self._off, np.array(start), rounds, self.exhausted)
        return error, tuple(params.tolist())

    def _off(self, params: Vector) -> Vector | None:
        port = self.fault.apply(self.base, tuple(params.tolist()))
        values = self.evidence.difference(self.chain, port, self.index, self.part)
        return None if values is None else values[:: max(1, len(values) // TABLE.fit.values)]


def _descend(
    off: Callable[[Vector], Vector | None], params: Vector, rounds: int, exhausted: Callable[[], bool]
) -> tuple[float, Vector]:
    values = off(params)
    assert values is not None
    error, damping, table = float(values @ values), TABLE.fit.damping, TABLE.fit
    errors = [error]
    for _ in range(rounds):
        if exhausted() or (len(errors) > table.patience and error > errors[-1 - table.patience] / 2):
            break
        slopes = np.stack([_slope(off, params, values, axis) for axis in range(len(params))], axis=1)
        normal, gradient = slopes.T @ slopes, slopes.T @ values
        for _ in range(table.steps):
            step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), gradient, rcond=None)[0]
            moved = params - step
            # A deviation of 0 divides by nothing.
            nearest = np.where(params > 0, table.smallest, moved)
            moved = np.where(np.abs(moved) < table.smallest, nearest, moved)
            tried = off(moved)
            assert tried is not None
            better = float(tried @ tried)
            if better < error:
                break
            damping *= table.damping_up
        else:
            return error, params
        params, values, error, damping = moved, tried, better, damping / table.damping_down
        errors.append(error)
    return error, params


def _slope(off: Callable[[Vector], Vector | None], params: Vector, values: Vector, axis: int) -> Vector:
    moved = params.copy()
    moved[axis] += TABLE.fit.step
    there = off(moved)
    assert there is not None
    slope: Vector = (there - values) / TABLE.fit.step
    return slope
