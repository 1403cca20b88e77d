"""Decisions that follow from the heads: the detections of a device against the reference's."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cards import ModelCard
from harness.checks.detections import compare_decisions
from harness.checks.heads import HeadPair
from harness.checks.outcome import StageResult, judge


def check_decisions(card: ModelCard, batch_size: int, pairs: Sequence[HeadPair]) -> StageResult:
    """Hold the detections of each image to the reference's, within what the heads may differ by.

    Args:
        card: The contract of the model.
        batch_size: Of the run.
        pairs: One an image.

    Raises:
        NonFiniteHeadError: The device gives NaN or infinity.
    """
    comparisons = [
        comparison
        for pair in pairs
        for comparison in compare_decisions(card, pair.device, pair.reference, pair.allowed, pair.label)
    ]
    return judge("detections", batch_size, comparisons)
