"""Images in which a device and the reference visibly detect other things; a ranking to look at, not a judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from harness.types import Detections, Float64

SHOWN_SCORE = 0.3
"""Score from which on a detection is drawn, as CenterNet's own demo does (src/lib/opts.py, --vis_thresh)."""
SAME_IOU = 0.5
"""IoU from which on two boxes of a class are of one object."""
VISIBLE = 0.2
"""Difference of score, plus that of place (1 - IoU, times the lower score), below which detections look the same."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Detections of one image that a device and the reference do not share.

    Attributes:
        found: (K,) of each detection of the device, whether the reference has none such.
        golden: (L,) of each of the reference, whether the device has none such.
        moved: Pairs of one object whose scores or places visibly differ; both are marked above as well.
        total: Sum of the scores of what only one side has, and of the differences of the pairs.
    """

    found: Bools
    golden: Bools
    moved: int
    total: float


def disagreement(found: Detections, golden: Detections) -> Disagreement:
    """Pair the detections of an image, the device's best first with the free one of its class that it overlaps most.

    What neither side scores `SHOWN_SCORE` does not count.

    Args:
        found: Of the device, in image pixels.
        golden: Of the reference.
    """
    overlap = _overlap(found, golden)
    partner = _partners(overlap)
    alone, missed = found.scores >= SHOWN_SCORE, golden.scores >= SHOWN_SCORE
    moved, total = 0, 0.0
    for own, other in enumerate(partner):
        if other < 0:
            continue
        score, wanted = float(found.scores[own]), float(golden.scores[other])
        difference = abs(score - wanted) + (1 - float(overlap[own, other])) * min(score, wanted)
        counts = difference >= VISIBLE and max(score, wanted) >= SHOWN_SCORE
        alone[own] = missed[other] = counts
        moved += counts
        total += difference if counts else 0.0
    unpaired = np.ones(len(golden.scores), np.bool_)
    unpaired[partner[partner >= 0]] = False
    total += float(found.scores[alone & (partner < 0)].sum() + golden.scores[missed & unpaired].sum())
    return Disagreement(alone, missed, moved, total)


def _overlap(found: Detections, golden: Detections) -> Float64:
    """(K, L) IoU of detections of the same class, 0 of others."""
    if not len(found.scores) or not len(golden.scores):
        return np.zeros((len(found.scores), len(golden.scores)))
    own, other = (
        np.hstack([one.boxes[:, :2], one.boxes[:, 2:] - one.boxes[:, :2]]).astype(np.float64) for one in (found, golden)
    )
    iou: Float64 = mask.iou(own, other, [0] * len(other))
    same: Float64 = np.where(found.classes[:, None] == golden.classes, iou, 0.0)
    return same


def _partners(overlap: Float64) -> NDArray[np.intp]:
    """(K,) place of the partner of each row, -1 where it has none."""
    partner = np.full(len(overlap), -1, np.intp)
    free = overlap.copy()
    for own in range(len(free)) if free.size else ():
        best = int(free[own].argmax())
        if free[own, best] >= SAME_IOU:
            partner[own] = best
            free[:, best] = 0.0
    return partner
