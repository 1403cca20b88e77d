"""Options of Sophon's compiler on a device card."""

from __future__ import annotations

from typing import Literal

from harness.cards.schema import Name, Record


class SophonChip(Record):
    """Table ``[vendor]`` of a device card whose toolchain is tpu_mlir."""

    chip: Name
    """Value of ``model_deploy --chip``."""
    float_mode: Literal["F16", "F32"]
    """Precision of the operators that stay in float beside INT8."""
