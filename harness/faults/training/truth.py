"""Mistakes in the boxes and classes of the objects."""

from __future__ import annotations

import torch

from harness.centernet2.labels import Truth
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import PORT, TrainingFault, with_truth

SLOTS = 20
"""Objects of an image in the port."""


def _padded(port: TrainingPort) -> None:
    background = port.model.settings.roi.classes

    def padded(own: Truth) -> Truth:
        missing = max(0, SLOTS - len(own.boxes))
        return Truth(
            torch.cat((own.boxes, own.boxes.new_zeros(missing, 4))),
            torch.cat((own.classes, own.classes.new_full((missing,), background))),
        )

    with_truth(padded)(port)


def _dropped(own: Truth) -> Truth:
    return Truth(own.boxes[:SLOTS], own.classes[:SLOTS])


def _inclusive(own: Truth) -> Truth:
    return own._replace(boxes=own.boxes + own.boxes.new_tensor((0, 0, 1, 1)))


def _as_corners(own: Truth) -> Truth:
    boxes = torch.cat((own.boxes[:, :2], own.boxes[:, 2:] - own.boxes[:, :2]), dim=1)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # loaders drop what has no area then
    return Truth(boxes[kept], own.classes[kept])


def _exchanged(own: Truth) -> Truth:
    return own._replace(boxes=own.boxes[:, [1, 0, 3, 2]])


def _from_1(own: Truth) -> Truth:
    return own._replace(classes=own.classes + 1)


TRUTH_FAULTS: tuple[TrainingFault, ...] = (
    TrainingFault(
        id="zero_gt_padding",
        rung="targets",
        description="the objects of an image are padded to 20 with zero boxes, which count as positives",
        seen_in=PORT,
        change=_padded,
    ),
    TrainingFault(
        id="gt_over_20_dropped",
        rung="targets",
        description="of more than 20 objects of an image, 20 are kept",
        seen_in=PORT,
        change=with_truth(_dropped),
        shown_on=("many",),
    ),
    TrainingFault(
        id="corners_inclusive",
        rung="targets",
        description="the lower right corners of the objects are one pixel further, as if the last pixel were within",
        seen_in="detectors that count width as x2 - x1 + 1",
        change=with_truth(_inclusive),
    ),
    TrainingFault(
        id="truth_xywh",
        rung="targets",
        description="width and height of the objects are taken for their lower right corner",
        seen_in="COCO's boxes, which are x, y, width, height",
        change=with_truth(_as_corners),
    ),
    TrainingFault(
        id="truth_x_y_exchanged",
        rung="targets",
        description="x and y of the objects are exchanged",
        seen_in="pipelines that hold boxes as y1, x1, y2, x2, as TensorFlow's do",
        change=with_truth(_exchanged),
    ),
    TrainingFault(
        id="classes_from_1",
        rung="matching",
        description="classes of the objects are counted from 1, so that the last is the background",
        seen_in="category ids of COCO taken for classes, and models whose background is class 0",
        change=with_truth(_from_1),
    ),
)
