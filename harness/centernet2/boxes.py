"""Arithmetic of boxes: x1, y1, x2, y2 in pixels, (n, 4) float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]


def area(boxes: Tensor) -> Tensor:
    """Return the area of each box, (n,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Return the IoU of each box of `one` with each of `other`, (n, m); 0 where they do not meet."""
    sides = torch.minimum(one[:, None, 2:], other[:, 2:]) - torch.maximum(one[:, None, :2], other[:, :2])
    both = sides.clamp(min=0).prod(dim=2)
    # Two boxes without area have no union either: 0 / 0 would be NaN.
    return torch.where(both > 0, both / (area(one)[:, None] + area(other) - both), both.new_zeros(()))


def clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes with each corner moved into an image."""
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), dim=1)


def has_area(boxes: Tensor) -> Tensor:
    """Tell which boxes have width and height, (n,)."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def encode(source: Tensor, target: Tensor, weights: Weights) -> Tensor:
    """Return the weighted deltas (n, 4) from `source` to `target`: the moved centre by size, and the log of sizes."""
    size, centre = _size_and_centre(source)
    target_size, target_centre = _size_and_centre(target)
    moved = (target_centre - centre) / size
    grown = torch.log(target_size / size)
    return torch.cat((moved, grown), dim=1) * source.new_tensor(weights)


def decode(source: Tensor, deltas: Tensor, weights: Weights, largest_growth: float) -> Tensor:
    """Return the boxes (n, 4) to which weighted deltas lead; a side grows at most by `largest_growth`."""
    size, centre = _size_and_centre(source)
    parts = deltas / deltas.new_tensor(weights)
    moved = parts[:, :2] * size + centre
    grown = torch.exp(parts[:, 2:].clamp(max=math.log(largest_growth))) * size
    return torch.cat((moved - 0.5 * grown, moved + 0.5 * grown), dim=1)


def _size_and_centre(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return size, boxes[:, :2] + 0.5 * size
