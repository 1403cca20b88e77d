"""Proposals in a fixed number of slots; see `harness.centernet2.proposals`."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.cards.centernet2 import Proposals
from harness.centernet2.head import FirstStage
from harness.centernet2.slots import Slots
from harness.centernet2.static_nms import nms_slots
from harness.centernet2.targets import STRIDES, centres_of_cells


@torch.no_grad()
def static_propose(settings: Proposals, heads: FirstStage, slots: int, *, training: bool) -> tuple[Slots, Tensor]:
    """Return the proposals of each image in slots, the surest first, and (N,) how many found none.

    Args:
        settings: Thresholds and numbers of boxes.
        heads: Of the batch.
        slots: Of an image, at most.
        training: Whether the greater numbers of the training apply.
    """
    before = settings.before_nms if training else settings.before_nms_test
    after = settings.after_nms if training else settings.after_nms_test
    joined = _before_nms(settings, heads, before)
    most = min(slots, joined.boxes.shape[1])  # small images have fewer cells than slots, whatever is in them
    found = [
        nms_slots(boxes, scores, valid, settings.nms, after, most) for boxes, scores, valid in zip(*joined, strict=True)
    ]
    kept, is_kept, dropped = (torch.stack(parts) for parts in zip(*found, strict=True))
    boxes = joined.boxes.gather(1, kept[..., None].expand(-1, -1, 4))
    boxes = torch.where(is_kept[..., None], boxes, 0.0)
    return Slots(boxes, torch.where(is_kept, joined.scores.gather(1, kept), 0.0), is_kept), dropped


def _before_nms(settings: Proposals, heads: FirstStage, most: int) -> Slots:
    """Return the surest boxes of each level, one level after the other."""
    boxes, scores, valid = [], [], []
    for logits, sides, stride in zip(heads.logits, heads.sides, STRIDES, strict=True):
        height, width = logits.shape[2:]
        centres = centres_of_cells((height, width), stride, logits.device)
        probability = torch.sigmoid(logits.float()).flatten(1)
        chosen = torch.where(probability > settings.least_probability, probability, -1.0)  # NaN is no proposal
        best, cells = chosen.topk(min(most, height * width), dim=1)
        distance = sides.float().flatten(2).transpose(1, 2) * stride
        distance = distance.gather(1, cells[..., None].expand(-1, -1, 4))
        upper_left = centres[cells] - distance[..., :2]
        lower_right = torch.maximum(centres[cells] + distance[..., 2:], upper_left + settings.least_side)
        boxes.append(torch.cat((upper_left, lower_right), dim=2))
        valid.append(best > 0)
        scores.append(best.clamp(min=0).sqrt())
    return Slots(torch.cat(boxes, dim=1), torch.cat(scores, dim=1), torch.cat(valid, dim=1))
