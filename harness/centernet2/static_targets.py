"""Truth of the first stage for a fixed number of objects an image; see `harness.centernet2.targets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.cards.centernet2 import TwoStageTargets
from harness.centernet2.boxes import area
from harness.centernet2.targets import STRIDES, Shape, centres_of_cells, half_diagonal


class StaticTargets(NamedTuple):
    """Truth of a batch, in the order of `harness.centernet2.head.flat`.

    Attributes:
        positives: (N * T * 5,) int64, the row of each slot on each level.
        is_positive: (N * T * 5,) bool, whether there is an object of the level's size.
        sides: (rows, 4) in units of the stride; without meaning where `takes_part` is False.
        takes_part: (rows,) bool, whether the sides of a row are learnt.
        heatmap: (rows,) from 0 to 1.
    """

    positives: Tensor
    is_positive: Tensor
    sides: Tensor
    takes_part: Tensor
    heatmap: Tensor


def static_targets(settings: TwoStageTargets, shapes: Sequence[Shape], boxes: Tensor, valid: Tensor) -> StaticTargets:
    """Make the truth of a batch.

    Args:
        settings: Sizes of objects by level, radii.
        shapes: (height, width) of each level.
        boxes: (N, T, 4) in pixels; 0 where a slot is empty.
        valid: (N, T), whether a slot holds an object.
    """
    counts = [height * width for height, width in shapes]
    cells = [centres_of_cells(shape, stride, boxes.device) for shape, stride in zip(shapes, STRIDES, strict=True)]
    images = [_of_image(settings, cells, own, there) for own, there in zip(boxes, valid, strict=True)]
    by_level = [[torch.split(part, counts) for part in image] for image in images]
    sides, takes_part, heatmap = (
        torch.cat([image[part][level] for level in range(len(STRIDES)) for image in by_level]) for part in range(3)
    )
    return StaticTargets(*_positives(settings, shapes, boxes, valid), sides, takes_part, heatmap)


def _positives(
    settings: TwoStageTargets, shapes: Sequence[Shape], boxes: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    device, images = boxes.device, len(boxes)
    strides = torch.tensor(STRIDES, device=device)
    counts = torch.tensor([height * width for height, width in shapes], device=device)
    widths = torch.tensor([width for _, width in shapes], device=device)
    bases = (counts * images).cumsum(0) - counts * images
    cells = ((boxes[..., :2] + boxes[..., 2:])[..., None, :] / 2 / strides[:, None]).long()
    image = torch.arange(images, device=device)[:, None, None]
    rows = bases + image * counts + cells[..., 1] * widths + cells[..., 0]
    sizes = torch.tensor(settings.sizes, device=device)
    size = half_diagonal(boxes[..., 2:] - boxes[..., :2])[..., None]
    of_size = (size >= sizes[:, 0]) & (size <= sizes[:, 1]) & valid[..., None]
    return rows.flatten(), of_size.flatten()


def _of_image(
    settings: TwoStageTargets, cells: Sequence[Tensor], boxes: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return sides, whether they are learnt, and heatmap of all cells of an image, one level after the other."""
    centres = torch.cat(list(cells))
    level = torch.cat([torch.full((len(one),), k, device=boxes.device) for k, one in enumerate(cells)])
    strides = torch.tensor(STRIDES, device=boxes.device)[level].float()[:, None]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    nearest = (middle / strides[..., None]).int() * strides[..., None] + strides[..., None] / 2
    off = centres[:, None] - nearest
    sides = torch.cat((centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]), dim=2)
    sizes = torch.tensor(settings.sizes, device=boxes.device)[level][:, None]
    size = half_diagonal(sides[..., :2] + sides[..., 2:])
    of_size = (size >= sizes[..., 0]) & (size <= sizes[..., 1])
    takes_part = (off.abs() <= strides[..., None]).all(dim=2) & (sides.amin(dim=2) > 0) & of_size & valid
    distance = (centres[:, None] - middle).square().sum(dim=2)
    distance = distance.masked_fill((off == 0).all(dim=2), 0.0)
    delta = (1 - settings.least_overlap) / (1 + settings.least_overlap)
    relative = distance / (delta**2 * 2 * area(boxes)).clamp(min=settings.least_radius**2)
    which = relative.masked_fill(~takes_part, torch.inf).argmin(dim=1)
    own = sides.gather(1, which[:, None, None].expand(-1, 1, 4))[:, 0] / strides
    heatmap = torch.exp(-relative.masked_fill(~valid, torch.inf).amin(dim=1))
    return own, takes_part.any(dim=1), heatmap.masked_fill(heatmap < settings.least_heat, 0.0)
