"""Proposals: the boxes of the first stage that the second looks at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from harness.cards.centernet2 import Proposals
from harness.centernet2.head import FirstStage
from harness.centernet2.targets import STRIDES, Centres, centres_of_cells


class Proposed(NamedTuple):
    """Proposals of one image, the surest first.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the network input; they may leave the image.
        scores: (n,) root of the probability of an object.
    """

    boxes: Tensor
    scores: Tensor


@torch.no_grad()
def propose(
    settings: Proposals, heads: FirstStage, *, training: bool, centres: Centres = centres_of_cells
) -> list[Proposed]:
    """Return the proposals of each image.

    Args:
        settings: Thresholds and numbers of boxes.
        heads: Of the batch.
        training: Whether the greater numbers of the training apply.
        centres: Of the cells of a level.
    """
    most = settings.after_nms if training else settings.after_nms_test
    by_level = before_nms(settings, heads, training=training, centres=centres)
    return [after_nms(settings, Proposed(*map(torch.cat, zip(*image, strict=True))), most) for image in by_level]


@torch.no_grad()
def before_nms(
    settings: Proposals, heads: FirstStage, *, training: bool, centres: Centres = centres_of_cells
) -> list[list[Proposed]]:
    """Return the boxes of each image before NMS, a list of its levels; see `propose`."""
    most = settings.before_nms if training else settings.before_nms_test
    by_level = [
        _of_level(settings, logits, sides, stride, most, centres)
        for logits, sides, stride in zip(heads.logits, heads.sides, STRIDES, strict=True)
    ]
    return [list(image) for image in zip(*by_level, strict=True)]


def _of_level(
    settings: Proposals, logits: Tensor, sides: Tensor, stride: int, most: int, centres_of: Centres
) -> list[Proposed]:
    height, width = logits.shape[2:]
    centres = centres_of((height, width), stride, logits.device)
    probabilities = torch.sigmoid(logits.float()).flatten(1)
    distances = sides.float().flatten(2).transpose(1, 2) * stride
    found = []
    for probability, distance in zip(probabilities, distances, strict=True):
        kept = (probability > settings.least_probability).nonzero()[:, 0]
        if len(kept) > most:
            kept = kept[probability[kept].topk(most).indices]
        upper_left = centres[kept] - distance[kept, :2]
        lower_right = torch.maximum(centres[kept] + distance[kept, 2:], upper_left + settings.least_side)
        found.append(Proposed(torch.cat((upper_left, lower_right), dim=1), probability[kept].sqrt()))
    return found


@torch.no_grad()
def after_nms(settings: Proposals, given: Proposed, most: int) -> Proposed:
    """Suppress boxes over all levels at once; of equal scores at the limit, all are kept."""
    kept = nms(given.boxes, given.scores, settings.nms)
    boxes, scores = given.boxes[kept], given.scores[kept]
    if len(kept) > most:
        kept = scores >= scores[most - 1]  # NMS has ordered them
        boxes, scores = boxes[kept], scores[kept]
    return Proposed(boxes, scores)
