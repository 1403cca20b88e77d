"""Changes of level in a series of figures, by a self-starting CUSUM: also those made of steps that no gate sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LEARNT = 3
"""Values of a level before the next is judged."""
ALLOWANCE = 0.5
"""Standard deviations that a value may be off without adding to the sum: half of the change that is found soonest."""
DECISION = 5.0
"""Sum, in standard deviations, at which the level has changed: of 465 values of one level, one does it by chance."""
SPREAD = 0.5
"""Least standard deviation, as a share of the change that is worth finding: equal figures have none of their own."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of level.

    Attributes:
        start: Index of the first value of the new level, or of the drift towards it.
        seen: Index of the value at which the sum of the deviations told.
        before: Mean of the level before.
        after: Mean of the values from the start to where it was seen.
        largest: Index of the value that is furthest from the one before it, in the direction of the change.
    """

    start: int
    seen: int
    before: float
    after: float
    largest: int

    @property
    def is_fall(self) -> bool:
        """Whether the new level is lower."""
        return self.after < self.before


def find_shifts(values: Sequence[float], least: float) -> list[Shift]:
    """Find the changes of level in a series; several in the same direction, one after another, are one.

    Each value is held to mean and spread of the values of its level so far, and what it is off by, beyond an
    allowance, is summed up for either direction. Source: Page, Continuous inspection schemes, Biometrika 41 (1954);
    self-starting: Hawkins, Self-starting Cusum charts for location and scale, The Statistician 36 (1987).

    Args:
        values: In order of time.
        least: Change that is worth finding, in the unit of the values.
    """
    series = np.asarray(values, np.float64)
    found: list[Shift] = []
    first = 0
    sums, starts = [0.0, 0.0], [0, 0]
    for index in range(len(series)):
        level = series[first:index]
        if len(level) < LEARNT:
            continue
        off = _standardised(series[index], level, least * SPREAD)
        for side, sign in enumerate((-1, 1)):
            if not sums[side]:
                starts[side] = index
            sums[side] = max(0.0, sums[side] + sign * off - ALLOWANCE)
        side = int(sums[1] > sums[0])
        if sums[side] > DECISION:
            start = starts[side]
            found.append(_shift(series, first, start, index))
            first, sums = start, [0.0, 0.0]
    return _joined(found, series)


def _standardised(value: float, level: NDArray[np.float64], least_spread: float) -> float:
    """Return how far a value is from its level as a standard normal number, whatever the level's own spread is.

    Of the t distribution by Wallace's approximation, Annals of Mathematical Statistics 30 (1959).
    """
    count, freedom = len(level), len(level) - 1
    spread = max(float(level.std(ddof=1)), least_spread)
    t = math.sqrt(count / (count + 1)) * (value - float(level.mean())) / spread
    size = math.sqrt(freedom * math.log1p(t * t / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return math.copysign(size, t)


def _shift(series: NDArray[np.float64], first: int, start: int, seen: int) -> Shift:
    before, after = float(series[first:start].mean()), float(series[start : seen + 1].mean())
    steps = np.diff(series[start - 1 : seen + 1]) * (1 if after > before else -1)
    return Shift(start, seen, before, after, start + int(steps.argmax()))


def _joined(found: Sequence[Shift], series: NDArray[np.float64]) -> list[Shift]:
    joined: list[Shift] = []
    for shift in found:
        if joined and joined[-1].is_fall == shift.is_fall:
            own = joined[-1]
            larger = max(own.largest, shift.largest, key=lambda at: abs(series[at] - series[at - 1]))
            joined[-1] = replace(own, seen=shift.seen, after=shift.after, largest=larger)
        else:
            joined.append(shift)
    return joined
