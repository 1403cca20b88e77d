"""What a correct port may differ by, one table for all precisions: ``tolerances.toml``."""

from __future__ import annotations

import math
from pathlib import Path

from harness.cards.schema import Record, parse, read_toml
from harness.errors import HarnessError

TABLE = Path(__file__).parent / "tolerances.toml"


class Tolerance(Record):
    """What a correct port of one precision may differ by."""

    unit_roundoff: float | None = None
    """None where no tolerance of the heads can be derived: they are measured, and the verdict is by AP."""
    factor: float | None = None
    factor_reason: str
    ap_loss_allowed: float
    ap_reason: str
    source: str
    since: str

    @property
    def derivable(self) -> bool:
        """Whether the heads can be held to a tolerance."""
        return self.unit_roundoff is not None and self.factor is not None

    def allowed(self, accumulation_length: int, scale: float) -> float:
        """Largest absolute difference of a head; infinite where none can be derived."""
        if self.unit_roundoff is None or self.factor is None:
            return math.inf
        return self.factor * self.unit_roundoff * math.sqrt(accumulation_length) * scale


def load_tolerance(precision: str) -> Tolerance:
    """The tolerance of a precision.

    Raises:
        HarnessError: There is none for it.
    """
    table = read_toml(TABLE)
    if precision not in table:
        raise HarnessError(
            f"precision '{precision}' is not supported yet",
            field="--precision",
            remedy=f"use one of {', '.join(sorted(table))}",
        )
    return parse(Tolerance, table[precision], TABLE)
