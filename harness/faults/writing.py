"""From detections on the grid to COCO results as a port may write them: right, or with one of the known mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.cards import ModelCard
from harness.faults.forms import WriteForm
from harness.types import Detections, Float64, Placement

Rows = list[dict[str, Any]]
PADDED_BATCH = 4


def write_in(
    card: ModelCard, form: WriteForm, detections: Mapping[int, Detections], placements: Mapping[int, Placement]
) -> Rows:
    """The results file that a port of this form writes.

    Args:
        card: The contract that the port should keep.
        form: What it does instead.
        detections: By image id, in the order of the run, as `decode` returns them.
        placements: By image id, where the port believes the image to lie.
    """
    rows: Rows = []
    for number, (image_id, found) in enumerate(detections.items(), start=1):
        if form.dropped and number % form.dropped == 0:
            continue
        last = number == len(detections)
        empty = -number % PADDED_BATCH if form.padding and last else 0
        for _ in range(1 + empty):
            rows += rows_of(card, form, image_id, found, placements[image_id])
    return rows


def rows_of(card: ModelCard, form: WriteForm, image_id: int, found: Detections, placement: Placement) -> Rows:
    """The rows of one image."""
    corners = found.boxes.astype(np.float64) * (card.decode.stride if form.strided else 1)
    corners = _back(form, corners, placement) + (form.shift * 2)
    if form.clipped != "no":
        size = placement.image_size if form.clipped == "image" else placement.input_size
        corners = np.clip(corners, 0, [*size, *size])
    boxes = _as_box(form, corners)
    scores = found.scores.astype(np.float64)
    if form.truncated:
        boxes = np.trunc(boxes)
    if form.rounded:
        boxes, scores = boxes.round(2), scores.round(2)
    ids = range(1, card.classes + 1) if form.contiguous else card.category_ids
    kept = [(i, box, score) for i, box, score in zip(found.classes.tolist(), boxes, scores, strict=True)]
    return [
        # A class beyond the last is written as the next number, as an array of names would be left.
        {
            "image_id": image_id,
            "category_id": ids[index] if 0 <= index < len(ids) else max(ids) + 1 if index > 0 else 0,
            "bbox": box.tolist(),
            "score": float(score),
        }
        for index, box, score in kept
    ]


def _back(form: WriteForm, corners: Float64, placement: Placement) -> Float64:
    points = corners.reshape(-1, 2)
    if form.inverse == "whole":
        points = points @ placement.inverse[:, :2].T + placement.inverse[:, 2]
    elif form.inverse == "scale":
        points = points @ placement.inverse[:, :2].T
    elif form.inverse == "axes":
        points = points * (np.array(placement.image_size) / placement.input_size)
    return points.reshape(-1, 4)


def _as_box(form: WriteForm, corners: Float64) -> Float64:
    if form.box == "xyxy":
        return corners
    first, second = corners[:, :2], corners[:, 2:]
    if form.box == "centre":
        return np.concatenate([(first + second) / 2, second - first], axis=1)
    for _ in range(form.edited):
        second = second - first
    return np.concatenate([first, second], axis=1)
