"""Decisions of a device against the reference's: which peaks are chosen, and where their boxes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import decode, top_peaks
from harness.checks.comparison import Comparison, labelled
from harness.types import Heads

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


def compare_decisions(
    card: ModelCard, device: Heads, reference: Heads, allowed: Mapping[str, float], label: str
) -> list[Comparison]:
    """The detections: which peaks are among the top K, and where their boxes lie.

    A peak binds if neither its place among the top K nor its standing above its neighbours hangs on a difference that
    the heatmap is allowed; every peak that binds on one side must be found on the other. Boxes are compared in pixels
    of the network input.

    Args:
        card: The contract of the model.
        device: Finite heads of the device.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison.
    """
    # The sigmoid's slope is at most 1/4; twice, for both of two scores may move.
    margin = 2 * allowed["hm"] * (0.25 if card.output.hm == "logits" else 1.0)
    unit = 1.0 if card.output.box_unit == "input" else float(card.decode.stride)
    box_allowed = unit * allowed["wh"] + card.decode.stride * allowed.get("reg", 0.0) + 1e-3
    found = []
    boxes = list(zip(decode(card, device), decode(card, reference), strict=True))
    for sample, (their_boxes, golden_boxes) in enumerate(boxes):
        what = labelled(label, "detections", sample, len(boxes))
        theirs, their_binding = _peaks(card, device["hm"][sample], margin)
        golden, golden_binding = _peaks(card, reference["hm"][sample], margin)
        lost, extra = golden_binding - theirs.keys(), their_binding - golden.keys()
        common = [(theirs[cell], golden[cell]) for cell in theirs.keys() & golden.keys()]
        if not common:
            nothing = not theirs and not golden
            found.append(Comparison(what, 0.0 if nothing else math.inf, box_allowed, 0, _changed(lost, extra)))
            continue
        pairs = np.array(common)
        shift = np.abs(their_boxes.boxes[pairs[:, 0]] - golden_boxes.boxes[pairs[:, 1]]) * card.decode.stride
        measured = float(shift.max())
        problem = _changed(lost, extra)
        if problem is None and not measured <= box_allowed:
            problem = f"a box has moved by {measured:.3g} pixels of the network input"
        found.append(Comparison(what, measured, box_allowed, len(common), problem))
    return found


def _changed(lost: set[int], extra: set[int]) -> str | None:
    if not lost and not extra:
        return None
    return f"{len(lost)} detections of the reference are lost, {len(extra)} are new"


def _peaks(card: ModelCard, hm: NDArray[np.floating], margin: float) -> tuple[dict[int, int], set[int]]:
    """Rank of each of the top peaks by its flat cell, and those cells whose choice is not a close call.

    A peak's choice is none if it tops its neighbours by more than the margin and if, of all cells that are peaks within
    the margin, fewer than the top K come within the margin of its score or lie above.
    """
    cells, _ = top_peaks(card, hm)
    values = np.ascontiguousarray(hm, np.float32)
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the score becomes 0
        scores = 1 / (1 + np.exp(-values)) if card.output.hm == "logits" else values
    beside = np.stack([cv2.dilate(plane, NEIGHBOURS) for plane in scores])
    possible = np.sort(scores[(scores >= beside - margin) & (scores > card.decode.score_threshold - margin)])
    own = scores.ravel()[cells]
    rivals = len(possible) - np.searchsorted(possible, own - margin) - 1
    clear = (own - margin > beside.ravel()[cells]) & (own - margin > card.decode.score_threshold)
    binding = cells[clear & (rivals < card.decode.top_k)]
    return {int(cell): rank for rank, cell in enumerate(cells)}, set(binding.tolist())
