"""Mistakes in what a step is given: pixels, boxes and classes of objects; and in what it gives back: gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from harness.centernet2.head import FirstStage
from harness.centernet2.labels import Truth
from harness.centernet2.port import Gradients, TrainingPort
from harness.centernet2.proposals import Proposed
from harness.faults.training.fault import TrainingFault, override, with_settings


def _with_truth(changed: Callable[[Truth], Truth]) -> Callable[[TrainingPort], None]:
    """Return a change of the objects of each image."""

    def change(port: TrainingPort) -> None:
        port.changed_truth = lambda truth: [changed(own) for own in truth]

    return change


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


def _without_root(port: TrainingPort) -> None:
    def proposals(right: Callable[[FirstStage], list[Proposed]], heads: FirstStage) -> list[Proposed]:
        return [own._replace(scores=own.scores.square()) for own in right(heads)]

    override(port.model, "proposals", proposals)


def _detached(port: TrainingPort) -> None:
    def pooled(
        right: Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, Tensor]],
        features: Sequence[Tensor],
        boxes: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        return right([feature.detach() for feature in features], boxes)

    override(port.model.roi_heads, "pooled", pooled)


def _summed(port: TrainingPort) -> None:
    def gradients(right: Callable[[Mapping[str, Tensor]], Gradients], losses: Mapping[str, Tensor]) -> Gradients:
        return {name: 2 * value for name, value in right(losses).items()}

    override(port, "gradients", gradients)


GIVEN_FAULTS: tuple[TrainingFault, ...] = (
    TrainingFault(
        id="std_of_torchvision",
        rung="batch",
        description="pixels are divided by the deviations of torchvision's weights, where this backbone wants 1",
        seen_in="transforms.Normalize of pixels from 0 to 1, with the usual three means and deviations",
        change=with_settings("input", std=(57.375, 57.12, 58.395)),
    ),
    TrainingFault(
        id="corners_inclusive",
        rung="targets",
        description="the lower right corners of the objects are one pixel further, as if the last pixel were within",
        seen_in="detectors that count width as x2 - x1 + 1",
        change=_with_truth(_inclusive),
    ),
    TrainingFault(
        id="truth_xywh",
        rung="targets",
        description="width and height of the objects are taken for their lower right corner",
        seen_in="COCO's boxes, which are x, y, width, height",
        change=_with_truth(_as_corners),
    ),
    TrainingFault(
        id="truth_x_y_exchanged",
        rung="targets",
        description="x and y of the objects are exchanged",
        seen_in="pipelines that hold boxes as y1, x1, y2, x2, as TensorFlow's do",
        change=_with_truth(_exchanged),
    ),
    TrainingFault(
        id="classes_from_1",
        rung="matching",
        description="classes of the objects are counted from 1, so that the last is the background",
        seen_in="category ids of COCO taken for classes, and models whose background is class 0",
        change=_with_truth(_from_1),
    ),
    TrainingFault(
        id="proposals_of_the_test",
        rung="proposals",
        description="the numbers of proposals are those of the test, 1,000 of a level and 256 in all",
        seen_in="a fixed number of proposals for training and test alike",
        change=with_settings("proposals", before_nms=1000, after_nms=256),
    ),
    TrainingFault(
        id="scores_without_root",
        rung="proposals",
        description="scores of proposals are probabilities, and not their roots",
        seen_in="proposal generators of other detectors",
        change=_without_root,
    ),
    TrainingFault(
        id="features_detached",
        rung="gradients",
        description="the gradients of the cascade do not reach the backbone",
        seen_in="RoIAlign moved to another device, or without a backward pass",
        change=_detached,
    ),
    TrainingFault(
        id="gradients_summed",
        rung="gradients",
        description="gradients are twice as large: summed over two processes or two steps, and not averaged or cleared",
        seen_in="all_reduce without the division, and zero_grad left out",
        change=_summed,
    ),
)
