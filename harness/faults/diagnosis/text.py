"""A diagnosis in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.faults import CATALOGUE
from harness.faults.diagnosis.explanation import Explanation
from harness.report.records import Diagnosis

BELIEVED = 0.3
"""Confidence below which only the first answer is told."""


def as_records(found: Sequence[Explanation]) -> list[Diagnosis]:
    """For the results document."""
    return [
        Diagnosis(
            faults=tuple(fault.id for fault in one.faults),
            residual=one.residual if math.isfinite(one.residual) else None,
            confidence=one.confidence,
        )
        for one in found
    ]


def answers(found: Sequence[Diagnosis]) -> list[str]:
    """A line for each answer that is worth telling, the surest first."""
    by_id = {fault.id: fault.description for fault in CATALOGUE}
    lines = []
    for place, one in enumerate(found):
        if not one.faults:
            lines.append(f"unknown: none of the {len(CATALOGUE)} known mistakes explains it")
        elif place == 0 or one.confidence >= BELIEVED:
            what = "; and ".join(by_id[fault] for fault in one.faults)
            with_it = "that mistake" if len(one.faults) == 1 else "these mistakes"
            left = "" if one.residual is None else f" to {one.residual:.0e}" if one.residual else " exactly"
            ids = ", ".join(one.faults)
            lines.append(f"{what}: the reference with {with_it} matches{left} (confidence {one.confidence:.2f}; {ids})")
    return lines
