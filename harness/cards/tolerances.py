"""Allowed differences of a correct port, one table for all precisions: ``tolerances.toml``."""

from __future__ import annotations

import math
from pathlib import Path

from harness.cards.schema import Record, parse, read_toml
from harness.errors import HarnessError

TABLE = Path(__file__).parent / "tolerances.toml"


class DetectionTolerance(Record):
    """Allowed differences of the detections of a two-stage detector."""

    score: float
    corner: float
    """Pixels of the network input."""
    source: str


class Tolerance(Record):
    """Allowed differences of a correct port at one precision."""

    unit_roundoff: float | None = None
    """Unit round-off of the precision; None if no tolerance of the heads can be derived.

    Such heads are measured, and the verdict is by AP.
    """
    factor: float | None = None
    factor_reason: str
    detections: DetectionTolerance | None = None
    """Of a two-stage detector; None if the precision has none, and AP decides."""
    ap_loss_allowed: float
    ap_reason: str
    source: str
    since: str

    @property
    def derivable(self) -> bool:
        """Tell whether the heads can be held to a tolerance."""
        return self.unit_roundoff is not None and self.factor is not None

    def allowed(self, accumulation_length: int, scale: float) -> float:
        """Return the largest allowed absolute difference of a head; infinite if none can be derived."""
        if self.unit_roundoff is None or self.factor is None:
            return math.inf
        return self.factor * self.unit_roundoff * math.sqrt(accumulation_length) * scale


def precision_names() -> list[str]:
    """Return the names of the precisions, sorted."""
    return sorted(read_toml(TABLE))


def load_tolerance(precision: str) -> Tolerance:
    """Load the tolerance of a precision.

    Raises:
        HarnessError: The table has no entry for it.
    """
    table = read_toml(TABLE)
    if precision not in table:
        raise HarnessError(
            f"precision '{precision}' is not supported yet",
            field="--precision",
            remedy=f"use one of {', '.join(precision_names())}",
        )
    return parse(Tolerance, table[precision], TABLE)
