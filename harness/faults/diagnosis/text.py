"""Text of a diagnosis, and its records in the results document."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.faults import CATALOGUE
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.training import TRAINING_FAULTS
from harness.report.records import Diagnosis

TRAINING = "training-"
"""Beginning of the names of the stages of a training."""
FIGURES = ("evaluate", "speed")
"""Stages whose figures either come out with a mistake or do not."""


def as_records(found: Sequence[Explanation], stage: str = "heads") -> list[Diagnosis]:
    """Convert explanations to records of the results document.

    Args:
        found: Best first; none where the images that were looked at do not deviate.
        stage: The stage of the suite whose deviation they explain.
    """
    if not found:
        return [Diagnosis(faults=(), residual=0.0, confidence=0.0, stage=stage)]
    return [
        Diagnosis(
            faults=tuple(fault.id for fault in one.faults),
            residual=one.residual if math.isfinite(one.residual) else None,
            confidence=one.confidence,
            stage=stage,
        )
        for one in found
    ]


def answers(found: Sequence[Diagnosis]) -> list[str]:
    """Write a line for the first answer of each stage and for each other that is likely enough."""
    first = {one.stage: one for one in reversed(found)}
    told = [one for one in found if one is first[one.stage] or one.confidence >= TABLE.confidence.believed]
    return [_named(one) if one.faults else _unknown(one) for one in told]


def _unknown(one: Diagnosis) -> str:
    if one.stage in FIGURES:
        return "unknown: none of the known mistakes gives these figures"
    if one.residual == 0.0:
        return "unknown: the images that were looked at do not deviate"
    known = TRAINING_FAULTS if one.stage.startswith(TRAINING) else CATALOGUE
    return f"unknown: none of the {len(known)} known mistakes explains it"


def _named(one: Diagnosis) -> str:
    by_id = {fault.id: fault.description for fault in CATALOGUE} | {one.id: one.description for one in TRAINING_FAULTS}
    what, ids = "; and ".join(by_id[fault] for fault in one.faults), ", ".join(one.faults)
    if one.stage in FIGURES:
        return f"{what}: the figures come out so (confidence {one.confidence:.2f}; {ids})"
    with_it = "that mistake" if len(one.faults) == 1 else "these mistakes"
    left = "" if one.residual is None else f" to {one.residual:.0e}" if one.residual else " exactly"
    return f"{what}: the reference with {with_it} matches{left} (confidence {one.confidence:.2f}; {ids})"
