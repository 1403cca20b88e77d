"""Decisions that follow from the heads: the detections of a device against the reference's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.cards import ModelCard
from harness.checks.comparison import Comparison
from harness.checks.detections import compare_decisions
from harness.checks.heads import HeadPair
from harness.checks.outcome import StageResult, judge


def check_decisions(
    card: ModelCard, batch_size: int, pairs: Sequence[HeadPair], every: Iterable[Comparison] = ()
) -> StageResult:
    """Hold the detections of each image to the reference's, within what the heads may differ by.

    Args:
        card: The contract of the model.
        batch_size: Of the run.
        pairs: One an image.
        every: Comparisons of the results of all images, made when asked for: not asked for where the first deviate.

    Raises:
        NonFiniteHeadError: The device gives NaN or infinity.
    """
    comparisons = [
        comparison
        for pair in pairs
        for comparison in compare_decisions(card, pair.device, pair.reference, pair.allowed, pair.label)
    ]
    if all(comparison.problem is None for comparison in comparisons):
        comparisons += every
    return judge("detections", batch_size, comparisons)
