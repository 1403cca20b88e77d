"""Known mistakes of those who port CenterNet: to measure what the suite catches, and to name what it has caught."""

from __future__ import annotations

from harness.faults.base import STAGES, Fault, Setting, compatible
from harness.faults.early import NETWORK, PREPROCESS
from harness.faults.figures import EVALUATE, PERF, RESULTS
from harness.faults.forms import Forms
from harness.faults.late import BATCH, DECODE, HEADS, NUMERIC

CATALOGUE: tuple[Fault, ...] = (
    *PREPROCESS, *NETWORK, *HEADS, *NUMERIC, *BATCH, *DECODE, *RESULTS, *EVALUATE, *PERF,
)  # fmt: skip
"""Every fault, in the order of the stages."""

__all__ = ["CATALOGUE", "STAGES", "Fault", "Forms", "Setting", "compatible"]
