"""Text of a diagnosis, and its records in the results document."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.faults import CATALOGUE
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.search_table import TABLE
from harness.report.records import Diagnosis


def as_records(found: Sequence[Explanation]) -> list[Diagnosis]:
    """Convert explanations to records of the results document."""
    return [
        Diagnosis(
            faults=tuple(fault.id for fault in one.faults),
            residual=one.residual if math.isfinite(one.residual) else None,
            confidence=one.confidence,
        )
        for one in found
    ]


def answers(found: Sequence[Diagnosis]) -> list[str]:
    """Write a line for the first answer and for each other that is likely enough."""
    by_id = {fault.id: fault.description for fault in CATALOGUE}
    lines = []
    for place, one in enumerate(found):
        if not one.faults:
            lines.append(f"unknown: none of the {len(CATALOGUE)} known mistakes explains it")
        elif place == 0 or one.confidence >= TABLE.confidence.believed:
            what = "; and ".join(by_id[fault] for fault in one.faults)
            with_it = "that mistake" if len(one.faults) == 1 else "these mistakes"
            left = "" if one.residual is None else f" to {one.residual:.0e}" if one.residual else " exactly"
            ids = ", ".join(one.faults)
            lines.append(f"{what}: the reference with {with_it} matches{left} (confidence {one.confidence:.2f}; {ids})")
    return lines
