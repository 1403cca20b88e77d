"""Training targets, drawn as the official CenterNet draws them.

Zhou et al., "Objects as Points" (https://arxiv.org/abs/1904.07850), section 3; the radius is CornerNet's
(Law and Deng, https://arxiv.org/abs/1808.01244, section 3.2) as the official CenterNet computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.types import Float32

MIN_OVERLAP = 0.7
"""IoU that a box with corners within the radius keeps with the truth."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of one image on the output grid.

    Attributes:
        hm: (classes, h, w) Gaussian peaks, 1 at each centre.
        weight: (1, h, w), 0 where nothing is known (crowds) and 1 elsewhere.
        index: (objects,) int64 flat place y * w + x of each centre.
        wh: (objects, 2) width and height in cells.
        reg: (objects, 2) centre minus its cell, (x, y) in cells.
    """

    hm: Float32
    weight: Float32
    index: NDArray[np.int64]
    wh: Float32
    reg: Float32


def gaussian_radius(height: float, width: float, overlap: float = MIN_OVERLAP) -> float:
    """Compute the radius of a peak in cells, as the official code does.

    There are three quadratic equations, one for each way in which the corners of two boxes can lie (one inside the
    other, apart, around). Each is solved with the official code's ``(b + sqrt(d)) / 2``. This is not the root of the
    second and third equation, but the published weights were trained with it.
    """
    total, area = height + width, height * width

    def root(a: float, b: float, c: float) -> float:
        return (b + math.sqrt(b * b - 4 * a * c)) / 2

    apart = root(1, total, area * (1 - overlap) / (1 + overlap))
    inside = root(4, 2 * total, (1 - overlap) * area)
    around = root(4 * overlap, -2 * overlap * total, (overlap - 1) * area)
    return min(apart, inside, around)


def draw_gaussian(channel: Float32, x: int, y: int, radius: int) -> None:
    """Raise `channel` (h, w) to a Gaussian of standard deviation ``(2 radius + 1) / 6`` around cell (x, y)."""
    height, width = channel.shape
    left, right = min(x, radius), min(width - x, radius + 1)
    top, bottom = min(y, radius), min(height - y, radius + 1)
    sigma = (2 * radius + 1) / 6
    dy, dx = np.ogrid[-top:bottom, -left:right]
    bump = np.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma)).astype(np.float32)
    region = channel[y - top : y + bottom, x - left : x + right]
    np.maximum(region, bump, out=region)


def draw_targets(
    boxes: NDArray[np.floating],
    classes: NDArray[np.int64],
    crowds: NDArray[np.floating],
    shape: tuple[int, int, int],
    overlap: float = MIN_OVERLAP,
) -> Targets:
    """Draw the targets of one image.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in cells; boxes are cut off at the border of the grid, or dropped outside it.
        classes: (n,) heatmap channel.
        crowds: (m, 4) boxes with weight 0, except at the centres of the objects themselves.
        shape: (classes, h, w) of the heatmap.
        overlap: Overlap for `gaussian_radius`; a lower one makes wider peaks.
    """
    _, height, width = shape
    hm = np.zeros(shape, np.float32)
    weight = np.ones((1, height, width), np.float32)
    limits = np.array([width, height, width, height])
    for x1, y1, x2, y2 in np.clip(crowds, 0, limits):
        weight[0, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = 0
    clipped = np.clip(boxes, 0, limits - 1)
    sizes = clipped[:, 2:] - clipped[:, :2]
    kept = (sizes > 0).all(axis=1)
    clipped, sizes, classes = clipped[kept], sizes[kept], classes[kept]
    centres = (clipped[:, :2] + clipped[:, 2:]) / 2
    cells = centres.astype(np.int64)
    for (x, y), (w, h), channel in zip(cells, sizes, classes, strict=True):
        radius = max(0, int(gaussian_radius(math.ceil(h), math.ceil(w), overlap)))
        draw_gaussian(hm[channel], int(x), int(y), radius)
        weight[0, y, x] = 1
    return Targets(
        hm, weight, cells[:, 1] * width + cells[:, 0], sizes.astype(np.float32), (centres - cells).astype(np.float32)
    )
