"""Heads of a device against the reference's: one by one, sample by sample, alone and in a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.cards.tolerances import Tolerance
from harness.checks.comparison import Comparison, compare_values, labelled, worst
from harness.checks.outcome import StageResult, judge, measured_only
from harness.types import Heads


@dataclass(frozen=True, slots=True)
class HeadPair:
    """Heads of one image from two sides.

    Attributes:
        label: Said with every comparison: the image and its place in the batch.
        device: Heads of the device (1, channels, h, w).
        reference: Heads that they should equal.
        allowed: Largest absolute difference by head.
    """

    label: str
    device: Heads
    reference: Heads
    allowed: Mapping[str, float]


def check_heads(
    batch_size: int,
    pairs: Sequence[HeadPair],
    tolerance: Tolerance,
    losses: Mapping[str, float],
    again: Iterable[HeadPair] = (),
) -> StageResult:
    """Hold the heads of a device to the reference's; where no tolerance can be derived, only measure them.

    Args:
        batch_size: Of the run.
        pairs: One an image.
        tolerance: That of the run's precision.
        losses: See `Artifact`.
        again: Heads of the same images from later calls of the device, made when asked for: not asked for where the
            first deviate.
    """
    comparisons = _compared(pairs)
    if all(comparison.problem is None for comparison in comparisons):
        later = _worst_by_head(again)
        # What a device has given before, it must give again at every precision.
        if tolerance.derivable or any(comparison.problem is not None for comparison in later):
            return judge("heads", batch_size, [*comparisons, *later])
    if tolerance.derivable:
        return judge("heads", batch_size, comparisons)
    return measured_only("heads", batch_size, comparisons, tolerance.factor_reason, losses)


def _worst_by_head(pairs: Iterable[HeadPair]) -> list[Comparison]:
    """Of many calls, the worst comparison of each head."""
    by_head: dict[str, Comparison] = {}
    for comparison in _compared(pairs):
        head = comparison.what.rpartition("head ")[2]
        by_head[head] = worst([*([by_head[head]] if head in by_head else []), comparison])
    return [replace(one, worst_of=f"later calls, head {head}") for head, one in by_head.items()]


def check_batch(batch_size: int, pairs: Sequence[HeadPair]) -> StageResult:
    """Hold the heads of each sample in a batch to those of the sample alone, on the same device."""
    return judge("batch", batch_size, _compared(pairs))


def _compared(pairs: Iterable[HeadPair]) -> list[Comparison]:
    return [
        comparison
        for pair in pairs
        for comparison in compare_heads(pair.device, pair.reference, pair.allowed, pair.label)
    ]


def compare_heads(device: Heads, reference: Heads, allowed: Mapping[str, float], label: str) -> list[Comparison]:
    """Every head of every sample, each on its own; NaN and infinity fail, and so does a comparison of nothing.

    Args:
        device: What the device gave.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison, such as the batch size.
    """
    if device.keys() != reference.keys():
        missing = ", ".join(sorted(reference.keys() ^ device.keys()))
        return [Comparison(f"{label}, heads", math.inf, 0, 0, f"only one side has: {missing}")]
    found = []
    for name, expected in reference.items():
        got = device[name]
        if got.shape != expected.shape or not expected.size:
            problem = f"expected shape {expected.shape}, got {got.shape}" if expected.size else "nothing to compare"
            found.append(Comparison(f"{label}, head {name}", math.inf, allowed[name], 0, problem))
            continue
        for sample in range(len(expected)):
            what = labelled(label, f"head {name}", sample, len(expected))
            found.append(compare_values(what, got[sample], expected[sample], allowed[name]))
    return found
