"""Detections of a port against the reference's: which peaks are chosen, and where their boxes lie.

A port whose heads differ from the reference's by what they may can choose other peaks. The heads of the reference and
the margins say which detections such a port must have and which it may have; `close_calls` is the one place that
decides it. The port's own choice is known by cell where its heads are given (`compare_decisions`), and by class, score
and box where only the rows of its results are (`judge_detections`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import AnyCard, ModelCard
from harness.centernet.decode import Indices, decode, detections_at, finite_sample, scores_of, to_image_space, top_peaks
from harness.checks.comparison import Comparison, labelled
from harness.checks.margins import Margins
from harness.types import Detections, Float64, Heads, Placement

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
LARGE = 1000.0
"""Pixels of a coordinate from which on the digits of its text count."""
PAIRS_AT_ONCE = 1_000_000
"""Rows that are compared in one step: bounds the memory where, with few peaks, every cell of a heatmap may be one."""

Rows = Sequence[Mapping[str, Any]]
"""Rows of a COCO results file: ``category_id``, ``score`` and ``bbox`` (x, y, width, height) in image pixels."""


@dataclass(frozen=True, slots=True)
class CloseCalls:
    """Cells of one heatmap, as flat indices, by whether a port within the margins detects something there.

    Attributes:
        must: Those where every port does.
        may: Those where some port does, `must` among them.
    """

    must: Indices
    may: Indices


def close_calls(card: ModelCard, hm: NDArray[np.floating], margins: Margins) -> CloseCalls:
    """Sort the cells of a heatmap by whether a detection there hangs on a close call.

    A cell is surely a peak if its value cannot fall below those of its neighbours, nor its score to the threshold. It
    may be a peak if its score can come up to both. A sure peak must be detected if fewer than the top K of the cells
    that may be peaks can come before it. A possible peak may be detected if fewer than the top K of the sure peaks
    surely come before it.

    Args:
        card: The contract of the model.
        hm: (classes, h, w), finite, of the reference.
        margins: What the scores may differ by.
    """
    planes = np.ascontiguousarray(hm, np.float32)
    values, around = planes.ravel(), np.stack([cv2.dilate(plane, NEIGHBOURS) for plane in planes]).ravel()
    scores, scores_around = (scores_of(card, one).astype(np.float64) for one in (values, around))
    threshold, top_k, order = card.decode.score_threshold, card.decode.top_k, margins.order
    may = np.flatnonzero((scores >= scores_around - order) & (scores > threshold - margins.score))
    above = values[may].astype(np.float64) - around[may]
    sure = may[(above >= 2 * margins.value) & (scores[may] > threshold + margins.score)]
    rivals, best = np.sort(scores[may]), np.sort(scores[sure])
    before = len(rivals) - np.searchsorted(rivals, scores[sure] - order) - 1
    surely_before = len(best) - np.searchsorted(best, scores[may] + order, side="right")
    return CloseCalls(sure[before < top_k], may[surely_before < top_k])


def compare_decisions(
    card: ModelCard, device: Heads, reference: Heads, allowed: Mapping[str, float], label: str
) -> list[Comparison]:
    """Compare the detections of two sets of heads: which peaks are chosen and, in pixels of the input, their corners.

    Args:
        card: The contract of the model.
        device: Finite heads of the device.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison.
    """
    margins = Margins.of_heads(card, allowed)
    found = []
    boxes = list(zip(decode(card, device), decode(card, reference), strict=True))
    for sample, (their_boxes, golden_boxes) in enumerate(boxes):
        what = labelled(label, "detections", sample, len(boxes))
        theirs, golden = (_ranks(card, heads["hm"][sample]) for heads in (device, reference))
        calls = close_calls(card, reference["hm"][sample], margins)
        changed = _changed(len(set(calls.must) - theirs.keys()), len(theirs.keys() - set(calls.may)))
        common = [(theirs[cell], golden[cell]) for cell in theirs.keys() & golden.keys()]
        if not common:
            nothing = not theirs and not golden
            found.append(Comparison(what, 0.0 if nothing else math.inf, margins.corner, 0, changed))
            continue
        pairs = np.array(common)
        shift = np.abs(their_boxes.boxes[pairs[:, 0]] - golden_boxes.boxes[pairs[:, 1]]) * card.decode.stride
        measured = float(shift.max())
        if changed is None and not measured <= margins.corner:
            changed = f"a box has moved by {measured:.3g} pixels of the network input"
        found.append(Comparison(what, measured, margins.corner, len(common), changed))
    return found


def judge_detections(
    card: ModelCard, rows: Float64, heads: Heads, placement: Placement, allowed: Mapping[str, float], label: str
) -> Comparison:
    """Compare the results of a port for one image with the detections of heads.

    Args:
        card: The contract of the model.
        rows: (n, 6) as `table_of` gives it, of the image.
        heads: Heads of one sample, N = 1: the port's own, or the reference's.
        placement: Where the image lies in the network input.
        allowed: Largest absolute difference by head; empty where the heads are the port's own.
        label: Names the image.

    Raises:
        NonFiniteHeadError: A head holds NaN or infinity.
    """
    margins = Margins.of_rows(card, allowed, placement)
    sample = finite_sample(heads, 0)
    calls = close_calls(card, sample["hm"], margins)
    must, may = (
        table_of(card, to_image_space(card, detections_at(card, sample, cells), placement))
        for cells in (calls.must, calls.may)
    )
    lost = int((~has_equal(must, rows, margins)).sum())
    extra = int((~has_equal(rows, may, margins)).sum()) + len(rows) - len(np.unique(rows, axis=0))
    problem = None
    if lost or extra:
        problem = f"{lost} detections of the reference are not in the results, {extra} of the results are none of its"
    return Comparison(f"{label}, detections", float(lost + extra), 0.0, len(rows) + len(must), problem)


def stands_out(card: ModelCard, rows: Float64, golden: Float64, margins: Margins) -> bool:
    """Tell whether the results of one image differ from the reference's clearly above the last that is kept.

    Where they do, `judge_detections` tells whether a right port may: peaks that tie look alike here.

    Args:
        card: The contract of the model.
        rows: (n, 6) as `table_of` gives it.
        golden: (m, 6) likewise, of the reference.
        margins: Of rows.
    """
    ends = (table[:, 1].min() for table in (rows, golden) if len(table) >= card.decode.top_k)
    last = max((card.decode.score_threshold, *ends)) + margins.order
    return any(
        not has_equal(one[one[:, 1] > last], other, margins).all() for one, other in ((rows, golden), (golden, rows))
    )


def table_of(card: AnyCard, found: Detections) -> Float64:
    """(n, 6) of detections in image pixels: category, score and the corners x1, y1, x2, y2."""
    return np.column_stack([np.array(card.category_ids)[found.classes], found.scores, found.boxes.astype(np.float64)])


def table_of_rows(rows: Rows) -> Float64:
    """(n, 6) of rows of a results file, as `table_of` gives it."""
    table = np.array([[row["category_id"], row["score"], *row["bbox"]] for row in rows], np.float64).reshape(-1, 6)
    with np.errstate(invalid="ignore"):  # the corner of a box that a mistake has made infinite both ways is none
        table[:, 4:] += table[:, 2:4]
    return table


def unmatched_share(one: Float64, other: Float64, margins: Margins) -> float:
    """Count rows without an equal on the other side, and the difference in number, as a share of all rows.

    Rows alone do not tell which peaks tie with the last that is kept, as heads do (`close_calls`). If as many rows
    come on both sides, end at the same score, and most lie clearly above it, the others are left out of account.

    Args:
        one: (n, 6) as `table_of` gives it.
        other: (m, 6) likewise.
        margins: Of rows.
    """
    if not len(one) or not len(other):
        return float(len(one) != len(other))
    lone, lone_other = (~has_equal(a, b, margins, in_proportion=True) for a, b in ((one, other), (other, one)))
    ends = one[:, 1].min(), other[:, 1].min()
    last = max(ends) + margins.order
    above = one[:, 1] > last
    if len(one) == len(other) and abs(ends[0] - ends[1]) <= 2 * margins.order and above.mean() >= 0.5:
        lone, lone_other = lone & above, lone_other & (other[:, 1] > last)
    return (int(lone.sum()) + int(lone_other.sum()) + abs(len(one) - len(other))) / (len(one) + len(other))


def has_equal(wanted: Float64, given: Float64, margins: Margins, *, in_proportion: bool = False) -> NDArray[np.bool_]:
    """Tell for each row of a table, (n,), if another table has a row of its category, score and corners.

    Args:
        wanted: (n, 6) as `table_of` gives it.
        given: (m, 6) likewise.
        margins: Of rows.
        in_proportion: Corners beyond `LARGE` may differ in proportion: a mistake may have made them large.
    """
    found = np.zeros(len(wanted), bool)
    size = np.abs(given[:, 2:]).max(axis=1, initial=0.0) if in_proportion else np.zeros(len(given))
    limits = margins.corner * np.maximum(1.0, size / LARGE)
    step = max(1, PAIRS_AT_ONCE // max(1, len(given)))
    for first in range(0, len(wanted), step):
        some = wanted[first : first + step, None]
        near = (some[..., 0] == given[:, 0]) & (np.abs(some[..., 1] - given[:, 1]) <= margins.score)
        near &= np.abs(some[..., 2:] - given[:, 2:]).max(axis=2, initial=0.0) <= limits
        found[first : first + step] = near.any(axis=1)
    return found


def _changed(lost: int, extra: int) -> str | None:
    return f"{lost} detections of the reference are lost, {extra} are new" if lost or extra else None


def _ranks(card: ModelCard, hm: NDArray[np.floating]) -> dict[int, int]:
    """Rank of each detection by the flat cell that it stands on."""
    return {int(cell): rank for rank, cell in enumerate(top_peaks(card, hm)[0])}
