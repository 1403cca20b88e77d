"""Known mistakes of those who port CenterNet: ports that make them, and the diagnosis that names them."""

from __future__ import annotations

from typing import Any

from harness.faults.fault import STAGES, Fault, Setting, compatible
from harness.faults.port_spec import PortSpec
from harness.faults.stages.batch import BATCH_FAULTS
from harness.faults.stages.decode import DECODE_FAULTS
from harness.faults.stages.evaluate import EVALUATE_FAULTS
from harness.faults.stages.heads import HEADS_FAULTS
from harness.faults.stages.network_faults import NETWORK_FAULTS
from harness.faults.stages.numeric import NUMERIC_FAULTS
from harness.faults.stages.preprocess_faults import PREPROCESS_FAULTS
from harness.faults.stages.results import RESULTS_FAULTS
from harness.faults.stages.speed import SPEED_FAULTS

AnyFault = Fault[Any]
"""Fault of any stage."""

CATALOGUE: tuple[AnyFault, ...] = (
    *PREPROCESS_FAULTS, *NETWORK_FAULTS, *HEADS_FAULTS, *NUMERIC_FAULTS, *BATCH_FAULTS, *DECODE_FAULTS,
    *RESULTS_FAULTS, *EVALUATE_FAULTS, *SPEED_FAULTS,
)  # fmt: skip
"""Every fault, in the order of the stages."""

__all__ = ["CATALOGUE", "STAGES", "AnyFault", "Fault", "PortSpec", "Setting", "compatible"]
