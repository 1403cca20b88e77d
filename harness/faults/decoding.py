"""Decoding as a port may do it, cell by cell: right, or with one of the known mistakes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import boxes_around, centres_at, decode, scores_of
from harness.faults.forms import DecodeForm
from harness.types import Detections, Float32, Heads

RIGHT = DecodeForm()


def decode_in(card: ModelCard, form: DecodeForm, heads: Heads) -> Detections:
    """The detections of one sample as a port of this form decodes them, boxes in cells of the output grid.

    Args:
        card: The contract that the port should keep.
        form: What it does instead.
        heads: Of one sample, N = 1, finite.

    Raises:
        NonFiniteHeadError: A head holds NaN or infinity.
    """
    if form == RIGHT:
        return decode(card, heads)[0]
    named = {name: np.asarray(values[0], np.float32) for name, values in heads.items()}
    scores = _scores(card, form, named["hm"])
    peaks = _peaks(form, scores)
    threshold = card.decode.score_threshold if form.threshold is None else form.threshold
    peaks &= scores > (-np.inf if form.logits else threshold)
    if form.one_class:
        peaks &= scores == scores.max(axis=0)
    cells = np.flatnonzero(peaks)
    order = np.argsort(-scores.ravel()[cells], kind="stable")[: form.top_k or card.decode.top_k]
    cells = cells[order]
    classes, rows, columns = np.unravel_index(cells, scores.shape)
    boxes = _boxes(card, form, named, rows, columns)
    best = np.asarray(scores.ravel()[cells], np.float32)
    found = Detections(boxes, best, (classes + form.class_shift).astype(np.int64))
    return found if form.iou_nms is None else _suppressed(found, form.iou_nms)


def _scores(card: ModelCard, form: DecodeForm, hm: Float32) -> Float32:
    scores = hm if form.logits else scores_of(card, hm)
    return scores.astype(np.float16).astype(np.float32) if form.half else scores


def _peaks(form: DecodeForm, scores: Float32) -> NDArray[np.bool_]:
    """Which cells of (classes, h, w) pass the peak test of the form."""
    if form.window == 1:
        return np.ones(scores.shape, bool)
    window = np.ones((form.window, form.window), np.uint8)
    if form.strict:
        window[form.window // 2, form.window // 2] = 0
    highest = np.stack([cv2.dilate(plane, window) for plane in scores])
    return scores > highest if form.strict else scores == highest


def _boxes(
    card: ModelCard, form: DecodeForm, heads: dict[str, Float32], rows: NDArray[Any], columns: NDArray[Any]
) -> Float32:
    if form.reg == "head":
        centres = centres_at(card, heads, rows, columns)
    else:
        centres = np.stack([columns, rows], axis=1).astype(np.float32) + np.float32(0.5 if form.reg == "half" else 0)
    return boxes_around(card, centres, heads["wh"][:, rows, columns].T)


def _suppressed(found: Detections, limit: float) -> Detections:
    """Without the boxes that overlap a better one of their class."""
    kept: list[int] = []
    for i in range(len(found)):
        same = [j for j in kept if found.classes[j] == found.classes[i]]
        if all(_iou(found.boxes[i], found.boxes[j]) <= limit for j in same):
            kept.append(i)
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])


def _iou(a: Float32, b: Float32) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2]))
    return shared / (areas - shared) if areas > shared else 0.0
