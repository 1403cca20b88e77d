"""Which boxes the cascade is trained on, and the object that each of them is of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.cards.centernet2 import Cascade
from harness.centernet2.boxes import overlaps

Size = tuple[int, int]


class Truth(NamedTuple):
    """Objects of one image.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the network input.
        classes: (n,) int64.
    """

    boxes: Tensor
    classes: Tensor


class Labelled(NamedTuple):
    """Boxes of one image that a stage is given in training.

    Attributes:
        boxes: (n, 4).
        labels: (n,) class of the object, or the number of classes for the background.
        truth: (n, 4) box of the object; without meaning for the background.
    """

    boxes: Tensor
    labels: Tensor
    truth: Tensor


def label(settings: Cascade, stage: int, boxes: Tensor, truth: Truth) -> Labelled:
    """Give each box the object that it overlaps most, where it does by enough for the stage; else the background."""
    if not len(truth.boxes):
        background = boxes.new_full((len(boxes),), settings.classes, dtype=torch.int64)
        return Labelled(boxes, background, torch.zeros_like(boxes))
    best, which = overlaps(truth.boxes, boxes).max(dim=0)
    # In the precision of the boxes: a limit of 0.7 is a little less in float32, and an equal overlap is enough.
    enough = best >= best.new_tensor(settings.overlaps[stage])
    labels = torch.where(enough, truth.classes[which], settings.classes)
    return Labelled(boxes, labels, truth.boxes[which])


def sample(
    settings: Cascade,
    proposals: Tensor,
    truth: Truth,
    *,
    all_proposals: bool = False,
    generator: torch.Generator | None = None,
) -> Labelled:
    """Choose the boxes of one image that the cascade is trained on, foreground first.

    Args:
        settings: How many, and how many of them foreground at most.
        proposals: (n, 4).
        truth: The image's objects, which are proposals as well where the settings say so.
        all_proposals: Whether to take all, in their order, and draw nothing.
        generator: Source of the draw; PyTorch's own by default.
    """
    boxes = torch.cat((proposals, truth.boxes)) if settings.append_truth else proposals
    found = label(settings, 0, boxes, truth)
    kept = choose(settings, found.labels, all_proposals=all_proposals, generator=generator)
    return Labelled(found.boxes[kept], found.labels[kept], found.truth[kept])


def choose(
    settings: Cascade, labels: Tensor, *, all_proposals: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Return the rows of the boxes that are chosen by their labels, foreground first; see `sample`."""
    foreground = (labels < settings.classes).nonzero()[:, 0]
    background = (labels == settings.classes).nonzero()[:, 0]
    if not all_proposals:
        foreground = _drawn(foreground, int(settings.batch * settings.foreground), generator)
        background = _drawn(background, settings.batch - len(foreground), generator)
    return torch.cat((foreground, background))


def _drawn(rows: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
