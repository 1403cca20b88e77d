"""Detections of a port of a two-stage detector against the reference's, as sets.

A port whose scores and boxes differ from the reference's by what they may can choose other detections: one whose score
is next to the threshold, whose IoU with another is next to the limit of NMS, or whose rank is next to the last that is
kept. The same goes for the proposals that they come from. `close_proposals` and `close_calls` decide which of the
reference's candidates such a port must have, and which it may have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from harness.cards import TwoStageCard
from harness.cards.centernet2 import Proposals, TwoStageDetections
from harness.cards.tolerances import DetectionTolerance
from harness.centernet2.boxes import area, clipped, overlaps
from harness.centernet2.inference import to_image_space
from harness.checks.comparison import Comparison
from harness.checks.detections import has_equal, table_of
from harness.checks.margins import Margins
from harness.types import Detections, Float32, Float64, Placement


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of one image before any is chosen.

    Attributes:
        boxes: (n, 4) float32 in pixels of the network input.
        scores: (n, classes) float32.
        sure: (n,) whether every port has the proposal that the box comes from.
    """

    boxes: Float32
    scores: Float32
    sure: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CloseCalls:
    """Candidates of one image by whether a port within the tolerance detects them, the surest first.

    Attributes:
        must: Those that every port detects.
        may: Those that some port does, `must` among them.
    """

    must: Detections
    may: Detections


def close_calls(settings: TwoStageDetections, found: Candidates, allowed: DetectionTolerance) -> CloseCalls:
    """Sort candidates by whether a detection hangs on a close call.

    Two scores are in a sure order where they differ by more than twice what one may. Of candidates in no sure order,
    either may suppress the other. Only a sure detection surely suppresses, and any possible one may.

    Args:
        settings: Threshold, NMS, number of detections.
        found: Finite candidates, within the image.
        allowed: What scores and corners may differ by.
    """
    rows, classes = np.nonzero(found.scores > settings.score_threshold - allowed.score)
    order = np.argsort(-found.scores[rows, classes], kind="stable")
    rows, classes = rows[order], classes[order]
    boxes, scores = found.boxes[rows], found.scores[rows, classes].astype(np.float64)
    must, may = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for class_ in np.unique(classes):
        own = np.flatnonzero(classes == class_)
        must[own], may[own] = _suppress(settings.nms, boxes[own], scores[own], found.sure[rows[own]], allowed)
    must &= scores > settings.score_threshold + allowed.score
    must &= (boxes[:, 2:] - boxes[:, :2] > 2 * allowed.corner).all(axis=1)  # else it may be dropped as empty
    chosen = map(np.flatnonzero, _best(settings.top_k, scores, must, may, allowed))
    return CloseCalls(*(Detections(boxes[some], scores[some].astype(np.float32), classes[some]) for some in chosen))


def close_proposals(
    settings: Proposals, boxes: Float32, scores: Float32, allowed: DetectionTolerance
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Choose the proposals that some port has, and tell which of them every port has.

    Args:
        settings: NMS, number of proposals.
        boxes: (n, 4) of one image before NMS, in pixels of the network input.
        scores: (n,) of them.
        allowed: What scores and corners may differ by.

    Returns:
        (m,) which of the boxes, the surest first, and (m,) whether every port has it.
    """
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), settings.nms).numpy()
    # No port comes to the boxes far below the last that is kept; all pairs of them would be many.
    least = scores[kept[: 2 * settings.after_nms_test][-1:]].min(initial=np.inf)
    rows = np.flatnonzero(scores >= least)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    own = scores[rows].astype(np.float64)
    must, may = _suppress(settings.nms, boxes[rows], own, np.ones(len(rows), bool), allowed)
    must, may = _best(settings.after_nms_test, own, must, may, allowed)
    return rows[may], must[may]


def _best(
    most: int, scores: Float64, must: NDArray[np.bool_], may: NDArray[np.bool_], allowed: DetectionTolerance
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which of sure and of possible candidates are among the best, each (n,)."""
    apart = 2 * allowed.score
    rivals, sure = np.sort(scores[may]), np.sort(scores[must])
    before = len(rivals) - np.searchsorted(rivals, scores - apart) - 1
    surely_before = len(sure) - np.searchsorted(sure, scores + apart, side="right")
    return must & (before < most), may & (surely_before < most)


def _suppress(
    limit: float, boxes: Float32, scores: Float64, sure: NDArray[np.bool_], allowed: DetectionTolerance
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which candidates of one class, best first, surely stay after NMS and which may, each (n,).

    Args:
        limit: IoU from which on a box is suppressed.
        boxes: (n, 4).
        scores: (n,), not increasing.
        sure: (n,) whether every port has the candidate.
        allowed: What scores and corners may differ by.
    """
    given = torch.from_numpy(boxes).double()
    overlap = overlaps(given, given)
    sides = (given[:, 2:] - given[:, :2]).sum(dim=1)
    union = (area(given)[:, None] + area(given)) / (1 + overlap)
    # A corner that moves by c changes an intersection, and either area, by its half perimeter x 2 c at most.
    margin = (4 * allowed.corner * (sides[:, None] + sides) / union.clamp(min=1e-9)).numpy()
    surely, maybe = overlap.numpy() > limit + margin, overlap.numpy() > limit - margin
    must, may = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    apart = 2 * allowed.score
    last = np.searchsorted(-scores, -(scores - apart), side="right")
    for place in range(len(boxes)):
        # One that it might itself come before is not among the sure ones: it is a rival of that.
        may[place] = not (must[:place] & surely[place, :place]).any()
        rivals = may[: last[place]] & maybe[place, : last[place]]
        rivals[place] = False
        must[place] = sure[place] and may[place] and not rivals.any()
    return must, may


def differs(card: TwoStageCard, rows: Detections, golden: Detections, margins: Margins) -> bool:
    """Tell whether two sets of detections in image pixels are not the same within margins."""
    one, other = table_of(card, rows), table_of(card, golden)
    return len(one) != len(other) or not (has_equal(one, other, margins).all() and has_equal(other, one, margins).all())


def judge_rows(
    card: TwoStageCard, rows: Detections, calls: CloseCalls, placement: Placement, margins: Margins, label: str
) -> Comparison:
    """Hold the detections of a port in one image to those that it must have and those that it may have.

    Args:
        card: The contract of the model.
        rows: Of the port, in image pixels.
        calls: Of the reference, in pixels of the network input.
        placement: Where the image lies in it.
        margins: See `margins_of`.
        label: Names the image.
    """
    own = table_of(card, rows)
    must, may = (table_of(card, to_image_space(card, some, placement)) for some in (calls.must, calls.may))
    lost = int((~has_equal(must, own, margins)).sum())
    extra = int((~has_equal(own, may, margins)).sum()) + len(own) - len(np.unique(own, axis=0))
    problem = None
    if lost or extra:
        problem = f"{lost} detections of the reference are not in the results, {extra} of the results are none of its"
    return Comparison(f"{label}, detections", float(lost + extra), 0.0, len(own) + len(must), problem)


def margins_of(allowed: DetectionTolerance, placement: Placement) -> Margins:
    """Return what detections in the pixels of an image may differ by: a pixel of the input may be several of them."""
    largest = max(1.0, *np.diag(placement.inverse[:, :2]).tolist())
    return Margins(value=allowed.score, score=allowed.score, corner=allowed.corner * largest)


def within_image(boxes: Float32, scores: Float32, sure: NDArray[np.bool_], size: tuple[int, int]) -> Candidates:
    """Make candidates of boxes (n, 4) and scores (n, classes + 1), the background last, as the model chooses from them.

    Args:
        boxes: In pixels of the network input. Rows that are not finite are left out.
        scores: Of each box.
        sure: (n,) whether every port has it.
        size: (height, width) of the image without its padding.
    """
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores).all(axis=1)
    inside = clipped(torch.from_numpy(boxes[finite]), *size).numpy()
    return Candidates(inside.astype(np.float32), scores[finite, :-1].astype(np.float32), sure[finite])
