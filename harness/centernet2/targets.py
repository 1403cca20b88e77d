"""Truth of the first stage: positive cells, the sides to be learnt, and the heatmap.

Rows are the cells of all levels, in the order of `harness.centernet2.head.flat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.cards.centernet2 import TwoStageTargets
from harness.centernet2.boxes import area

STRIDES = (8, 16, 32, 64, 128)

Shape = tuple[int, int]


class Targets(NamedTuple):
    """Truth of a batch.

    Attributes:
        positives: (p,) int64, the row of each object on each level that it belongs to; an object may share a row.
        rows: (r,) int64, rows whose sides are learnt.
        sides: (r, 4) of `rows`: left, top, right, bottom in units of the stride.
        heatmap: (rows,) from 0 to 1.
    """

    positives: Tensor
    rows: Tensor
    sides: Tensor
    heatmap: Tensor


def centres_of_cells(shape: Shape, stride: int, device: torch.device) -> Tensor:
    """Return the centres (H * W, 2) of a level's cells, x and y in pixels, row by row."""
    height, width = shape
    x = torch.arange(width, device=device) * stride + stride // 2
    y = torch.arange(height, device=device) * stride + stride // 2
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2).float()


Centres = Callable[[Shape, int, torch.device], Tensor]
"""From the shape of a level and its stride to the centres of its cells, such as `centres_of_cells`."""


def make_targets(
    settings: TwoStageTargets, shapes: Sequence[Shape], boxes: Sequence[Tensor], centres: Centres = centres_of_cells
) -> Targets:
    """Make the truth of a batch.

    Args:
        settings: Sizes of objects by level, radii.
        shapes: (height, width) of each level.
        boxes: Of each image, (n, 4) x1, y1, x2, y2 in pixels.
        centres: Of the cells of a level.
    """
    device = boxes[0].device
    cells = [centres(shape, stride, device) for shape, stride in zip(shapes, STRIDES, strict=True)]
    found = [_of_image(settings, cells, own) for own in boxes]
    counts = [len(one) for one in cells]
    by_level = [[torch.split(part, counts) for part in image] for image in found]
    joined = [
        torch.cat([image[part][level] for level in range(len(STRIDES)) for image in by_level]) for part in range(3)
    ]
    sides, takes_part, heatmap = joined
    rows = takes_part.nonzero()[:, 0]
    return Targets(positive_rows(settings, shapes, boxes), rows, sides[rows], heatmap)


def half_diagonal(sides: Tensor) -> Tensor:
    """Return the size of an object, (...), from its width and height, (..., 2)."""
    return sides.square().sum(dim=-1).sqrt() / 2


def positive_rows(
    settings: TwoStageTargets,
    shapes: Sequence[Shape],
    boxes: Sequence[Tensor],
    size_of: Callable[[Tensor], Tensor] = half_diagonal,
) -> Tensor:
    """Return the rows of the cells that hold the centre of an object of their level's size; the same may come twice."""
    device = boxes[0].device
    strides = torch.tensor(STRIDES, device=device)
    counts = torch.tensor([height * width for height, width in shapes], device=device)
    widths = torch.tensor([width for _, width in shapes], device=device)
    bases = (counts * len(boxes)).cumsum(0) - counts * len(boxes)
    found = []
    for image, own in enumerate(boxes):
        centres = (own[:, :2] + own[:, 2:]) / 2
        cells = (centres[:, None] / strides[:, None]).long()
        rows = bases + image * counts + cells[..., 1] * widths + cells[..., 0]
        sizes = torch.tensor(settings.sizes, device=device)
        found.append(rows[_is_within(size_of(own[:, None, 2:] - own[:, None, :2]), sizes)])
    return torch.cat(found)


def _is_within(size: Tensor, ends: Tensor) -> Tensor:
    """Tell where a size, (...), lies within two ends, (..., 2), both of them included."""
    return (size >= ends[..., 0]) & (size <= ends[..., 1])


def _of_image(settings: TwoStageTargets, cells: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sides, whether they are learnt, and heatmap of all cells of an image, one level after the other."""
    centres = torch.cat(list(cells))
    count = len(centres)
    if not len(boxes):
        return boxes.new_zeros((count, 4)), boxes.new_zeros(count, dtype=torch.bool), boxes.new_zeros(count)
    counts = torch.tensor([len(one) for one in cells], device=boxes.device)
    level = torch.repeat_interleave(counts)
    strides = torch.tensor(STRIDES, device=boxes.device)[level].float()[:, None]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    nearest = (middle / strides[..., None]).int() * strides[..., None] + strides[..., None] / 2
    off = centres[:, None] - nearest
    sides = torch.cat((centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]), dim=2)
    sizes = torch.tensor(settings.sizes, device=boxes.device)[level]
    of_size = _is_within(half_diagonal(sides[..., :2] + sides[..., 2:]), sizes[:, None])
    takes_part = (off.abs() <= strides[..., None]).all(dim=2) & (sides.amin(dim=2) > 0) & of_size
    distance = (centres[:, None] - middle).square().sum(dim=2)
    distance = distance.masked_fill((off == 0).all(dim=2), 0.0)
    delta = (1 - settings.least_overlap) / (1 + settings.least_overlap)
    relative = distance / (delta**2 * 2 * area(boxes)).clamp(min=settings.least_radius**2)
    nearest_of = relative.masked_fill(~takes_part, torch.inf).argmin(dim=1)
    own = sides[torch.arange(count, device=boxes.device), nearest_of] / strides
    heatmap = torch.exp(-relative.amin(dim=1))
    return own, takes_part.any(dim=1), heatmap.masked_fill(heatmap < settings.least_heat, 0.0)
