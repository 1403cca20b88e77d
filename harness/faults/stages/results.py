"""COCO results of a port: their specification, their computation and the known mistakes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from harness.cards import ModelCard
from harness.faults.fault import Fault, FaultStage
from harness.types import Detections, Float64, Placement

Rows = list[dict[str, Any]]
PADDED_BATCH = 4


@dataclass(frozen=True, slots=True)
class ResultsSpec:
    """Specification of the COCO results that a port writes.

    Attributes:
        inverse: Inverse of the placement: whole, left out, without its offset, or each axis by its own sides' ratio.
        strided: Cells become pixels of the network input.
        truncated: Coordinates are integers.
        box: Written as corner and sides (right), as two corners, or as centre and sides.
        edited: How often two corners are turned into corner and sides.
        plus_one: Width and height are ``x2 - x1 + 1``, ``y2 - y1 + 1``.
        clipped: Not, to the image, or to the size of the network input.
        shift: Added to every coordinate, in image pixels: (x, y).
        rounded: Coordinates and scores have two decimals.
        contiguous: Categories are counted 1, 2, 3 ... without COCO's gaps.
        dropped: Every n-th image is silently left out; 0 for none.
        padding: The slots beyond the last image of the last batch of 4 are written, too, as that image.
    """

    stage: ClassVar[FaultStage] = "results"

    inverse: Literal["whole", "none", "scale", "axes"] = "whole"
    strided: bool = True
    truncated: bool = False
    box: Literal["xywh", "xyxy", "centre"] = "xywh"
    edited: int = 1
    plus_one: bool = False
    clipped: Literal["no", "image", "input"] = "no"
    shift: tuple[float, float] = (0.0, 0.0)
    rounded: bool = False
    contiguous: bool = False
    dropped: int = 0
    padding: bool = False


def write_as(
    card: ModelCard, spec: ResultsSpec, detections: Mapping[int, Detections], placements: Mapping[int, Placement]
) -> Rows:
    """Write the rows of a port's results file.

    Args:
        card: The contract that the port should keep.
        spec: How it computes this stage.
        detections: By image id, in the order of the run, as `decode` returns them.
        placements: By image id, where the port takes the image to lie.
    """
    rows: Rows = []
    for number, (image_id, found) in enumerate(detections.items(), start=1):
        if spec.dropped and number % spec.dropped == 0:
            continue
        last = number == len(detections)
        empty = -number % PADDED_BATCH if spec.padding and last else 0
        for _ in range(1 + empty):
            rows += rows_of(card, spec, image_id, found, placements[image_id])
    return rows


def rows_of(card: ModelCard, spec: ResultsSpec, image_id: int, found: Detections, placement: Placement) -> Rows:
    """Write the rows of one image."""
    corners = found.boxes.astype(np.float64) * (card.decode.stride if spec.strided else 1)
    corners = _back(spec, corners, placement) + (spec.shift * 2)
    if spec.clipped != "no":
        size = placement.image_size if spec.clipped == "image" else placement.input_size
        corners = np.clip(corners, 0, [*size, *size])
    boxes = _as_box(spec, corners)
    scores = found.scores.astype(np.float64)
    if spec.truncated:
        boxes = np.trunc(boxes)
    if spec.rounded:
        boxes, scores = boxes.round(2), scores.round(2)
    ids = range(1, card.classes + 1) if spec.contiguous else card.category_ids
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


def _back(spec: ResultsSpec, corners: Float64, placement: Placement) -> Float64:
    points = corners.reshape(-1, 2)
    if spec.inverse == "whole":
        points = points @ placement.inverse[:, :2].T + placement.inverse[:, 2]
    elif spec.inverse == "scale":
        points = points @ placement.inverse[:, :2].T
    elif spec.inverse == "axes":
        points = points * (np.array(placement.image_size) / placement.input_size)
    return points.reshape(-1, 4)


def _as_box(spec: ResultsSpec, corners: Float64) -> Float64:
    if spec.box == "xyxy":
        return corners
    first, second = corners[:, :2], corners[:, 2:]
    extra = 1.0 if spec.plus_one else 0.0
    if spec.box == "centre":
        return np.concatenate([(first + second) / 2, second - first + extra], axis=1)
    for _ in range(spec.edited):
        second = second - first
    return np.concatenate([first, second + extra], axis=1)


RESULTS_FAULTS: tuple[Fault[ResultsSpec], ...] = (
    Fault(
        id="boxes-not-taken-back",
        spec=ResultsSpec,
        description="boxes are in pixels of the network input, not of the image",
        seen_in="demonstrations that draw on the resized image",
        change=lambda spec, p: replace(spec, inverse="none"),
    ),
    Fault(
        id="offset-not-undone",
        spec=ResultsSpec,
        description="boxes are scaled back, and the offset of the image in the input is not undone",
        seen_in="letterbox helpers (mb3_centernet reads AP 0.0127 so)",
        change=lambda spec, p: replace(spec, inverse="scale"),
        applies=lambda s: s.card.input.geometry != "stretch",
    ),
    Fault(
        id="boxes-by-axes",
        spec=ResultsSpec,
        description="boxes are scaled by each side's own ratio, as if the image had been stretched",
        seen_in="shared host code for stretched inputs",
        change=lambda spec, p: replace(spec, inverse="axes"),
        applies=lambda s: s.card.input.geometry != "stretch",
    ),
    Fault(
        id="boxes-in-cells",
        spec=ResultsSpec,
        description="boxes are not multiplied by the stride of the grid",
        seen_in="wh in cells and centres in pixels mixed up in rewritten post-processing",
        change=lambda spec, p: replace(spec, strided=False),
    ),
    Fault(
        id="boxes-truncated",
        spec=ResultsSpec,
        description="coordinates are cut to integers",
        seen_in="sophon-demo CenterNet: int() of the corners",
        change=lambda spec, p: replace(spec, truncated=True),
    ),
    Fault(
        id="boxes-corners",
        spec=ResultsSpec,
        description="boxes are x1, y1, x2, y2 where x, y, width, height is wanted",
        seen_in="COCO's format taken for Pascal VOC's",
        change=lambda spec, p: replace(spec, box="xyxy"),
    ),
    Fault(
        id="boxes-centres",
        spec=ResultsSpec,
        description="boxes are centre and size where corner and size is wanted",
        seen_in="YOLO's format written as COCO's",
        change=lambda spec, p: replace(spec, box="centre"),
    ),
    Fault(
        id="boxes-edited-twice",
        spec=ResultsSpec,
        description="corners are turned into sizes twice",
        seen_in="CenterNet's convert_eval_format edits its argument: calling it twice spoils the boxes",
        change=lambda spec, p: replace(spec, edited=2),
    ),
    Fault(
        id="boxes-clipped",
        spec=ResultsSpec,
        description="boxes are clipped to the image, which the official code does not do",
        seen_in="post-processing of other detectors",
        change=lambda spec, p: replace(spec, clipped="image"),
    ),
    Fault(
        id="boxes-clipped-to-input",
        spec=ResultsSpec,
        description="boxes in image pixels are clipped to the size of the network input",
        seen_in="clipping before boxes are taken back, moved behind it",
        change=lambda spec, p: replace(spec, clipped="input"),
    ),
    Fault(
        id="boxes-shifted",
        spec=ResultsSpec,
        description="boxes are shifted",
        seen_in="the + 1 of Pascal VOC's pixel boxes; margins counted once too often",
        change=lambda spec, p: replace(spec, shift=(p[0], p[1])),
        parameters=("x in image pixels", "y in image pixels"),
        draw=lambda r: tuple(float(v) for v in r.choice([-3.0, -2.0, 2.0, 4.0], 2)),
        guesses=((1.0, 1.0), (2.0, 2.0)),
        estimate="shift",
    ),
    Fault(
        id="results-rounded",
        spec=ResultsSpec,
        description="coordinates and scores are rounded to two decimals",
        seen_in="CenterNet's convert_eval_format",
        change=lambda spec, p: replace(spec, rounded=True),
    ),
    Fault(
        id="categories-contiguous",
        spec=ResultsSpec,
        description="categories are counted without COCO's gaps: 80 ids for 91",
        seen_in="class + 1 written as category_id",
        change=lambda spec, p: replace(spec, contiguous=True),
        applies=lambda s: s.card.category_ids != tuple(range(1, s.card.classes + 1)),
    ),
    Fault(
        id="images-dropped",
        spec=ResultsSpec,
        description="images are silently left out",
        seen_in="batch loops that forget the last batch; runners that skip what they cannot read",
        change=lambda spec, p: replace(spec, dropped=int(p[0])),
        parameters=("every n-th",),
        draw=lambda r: (float(r.choice([2, 3, 4])),),
        guesses=((2.0,), (3.0,), (4.0,)),
    ),
    Fault(
        id="padding-counted",
        spec=ResultsSpec,
        description="the results of padded slots are written as those of the last image",
        seen_in="ais_bench pads the last batch with the first file of that batch",
        change=lambda spec, p: replace(spec, padding=True),
    ),
    Fault(
        id="boxes-plus-one",
        spec=ResultsSpec,
        description="width and height are one pixel too large, as if the last pixel were inside the box",
        seen_in="py-faster-rcnn, lib/datasets/coco.py: ws = dets[:, 2] - xs + 1, as in Pascal VOC's development kit",
        change=lambda spec, p: replace(spec, plus_one=True),
    ),
)
