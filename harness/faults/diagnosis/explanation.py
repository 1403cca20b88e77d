"""What may explain what a port gave, and when it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.faults.base import Fault, Params
from harness.faults.diagnosis.evidence import Distance
from harness.faults.forms import Forms

EXPLAINED = 2.5
"""Mean distance in units of what may differ: precision leaves 0.1 to 0.5, and 1 to 2.5 where decisions hang on it."""
REMOVED = 0.2
"""Share of the deviation that may be left, too: what hardly deviates is not explained by what hardly changes it."""
QUIET = 1.0
"""Distance that precision alone may leave of an image."""


@dataclass(frozen=True)
class Hypothesis:
    """Mistakes, with parameters, that may explain what came.

    Attributes:
        faults: One or two.
        params: Of each.
        free: How many parameters were looked for.
    """

    faults: tuple[Fault, ...]
    params: tuple[Params, ...]
    free: int = 0

    @property
    def forms(self) -> Forms:
        """The port that makes them."""
        forms = Forms()
        for fault, params in zip(self.faults, self.params, strict=True):
            forms = fault.apply(forms, params)
        return forms

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the faults."""
        return tuple(fault.id for fault in self.faults)


@dataclass(frozen=True)
class Explanation:
    """An answer of the diagnosis.

    Attributes:
        faults: The mistakes; none where nothing known explains what came.
        params: Of each.
        residual: Difference that remains, which 99 of 100 values do not exceed; for detections, the share without an
            equal.
        confidence: That it is right, 0 to 1.
    """

    faults: tuple[Fault, ...]
    params: tuple[Params, ...]
    residual: float
    confidence: float


def accounts_for(found: Sequence[Distance], before: Sequence[Distance]) -> bool:
    """Whether a prediction accounts for what another one leaves unexplained, image by image.

    What precision leaves on images where a mistake hardly shows says nothing for it; there it must do no harm.
    """
    pairs = list(zip(found, before, strict=True))
    shown = [pair for pair in pairs if pair[1].worst > QUIET] or pairs
    now, then = (mean_of([pair[place] for pair in shown]) for place in (0, 1))
    harm = [max(0.0, pair[0].worst - pair[1].worst) for pair in pairs if pair[1].worst <= QUIET]
    return now <= min(EXPLAINED, REMOVED * then) and (not harm or float(np.mean(harm)) <= QUIET / 2)


def mean_of(distances: Sequence[Distance]) -> float:
    """Of all images, the part of each that is furthest off."""
    return float(np.mean([one.worst for one in distances]))


def confidence_of(worst: float, rivals: int, faults: int, free: int) -> float:
    """How sure an answer is: less where precision alone does not account for the rest, or others explain as much."""
    sure = 0.98 - 0.15 * max(0.0, worst - 0.5) - 0.03 * (faults - 1) - 0.01 * free
    return sure / (1 + rivals)
