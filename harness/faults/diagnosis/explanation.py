"""Hypotheses, the test of whether one explains the evidence, and the confidence in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.faults import AnyFault
from harness.faults.diagnosis.evidence import Distance
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.fault import Params
from harness.faults.port_spec import PortSpec


@dataclass(frozen=True)
class Hypothesis:
    """Faults, with parameters, that may explain the evidence.

    Attributes:
        faults: One or two.
        params: Parameters of each.
        free: Number of parameters that were fitted.
    """

    faults: tuple[AnyFault, ...]
    params: tuple[Params, ...]
    free: int = 0

    @property
    def port(self) -> PortSpec:
        """Specification of the port that makes these mistakes."""
        port = PortSpec()
        for fault, params in zip(self.faults, self.params, strict=True):
            port = fault.apply(port, params)
        return port

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the faults."""
        return tuple(fault.id for fault in self.faults)


@dataclass(frozen=True)
class Explanation:
    """Answer of the diagnosis.

    Attributes:
        faults: The mistakes; none if no known one explains the evidence.
        params: Parameters of each.
        residual: Difference that remains, which 99 of 100 values do not exceed; for detections, the share without an
            equal.
        confidence: Probability that it is right, 0 to 1.
    """

    faults: tuple[AnyFault, ...]
    params: tuple[Params, ...]
    residual: float
    confidence: float


def accounts_for(found: Sequence[Distance], before: Sequence[Distance]) -> bool:
    """Decide whether a prediction explains the deviation that another one leaves.

    Images on which the other prediction leaves no more than precision does say nothing for the new one; on them it
    must do no harm.

    Args:
        found: Distance of the prediction, by image.
        before: Distance of the other prediction, by image.
    """
    table = TABLE.threshold
    pairs = list(zip(found, before, strict=True))
    shown = [pair for pair in pairs if pair[1].worst > table.quiet] or pairs
    now, then = (mean_of([pair[place] for pair in shown]) for place in (0, 1))
    harm = [max(0.0, pair[0].worst - pair[1].worst) for pair in pairs if pair[1].worst <= table.quiet]
    harmless = not harm or float(np.mean(harm)) <= table.quiet / 2
    return now <= min(table.explained, table.removed * then) and harmless


def mean_of(distances: Sequence[Distance]) -> float:
    """Average the distance of the part that is furthest off over the images."""
    return float(np.mean([one.worst for one in distances]))


def confidence_of(worst: float, rivals: int, faults: int, free: int) -> float:
    """Compute the confidence in an answer.

    Args:
        worst: Mean distance that remains; beyond what precision leaves it lowers the confidence.
        rivals: Number of other explanations as good; they share it.
        faults: Number of faults.
        free: Number of parameters that were fitted.
    """
    table = TABLE.confidence
    sure = table.highest - table.loss_by_distance * max(0.0, worst - table.precision_alone)
    sure -= table.loss_by_fault * (faults - 1) + table.loss_by_parameter * free
    return sure / (1 + rivals)
