"""Shapes as integer coverage of pixels."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from harness.data.synthetic.portable_random import PortableRandom
from harness.data.synthetic.spec import Crowd, Outline, Range, Shape
from harness.types import UInt8

SAMPLES = 4
"""Samples of a pixel along each axis."""

FULL = SAMPLES * SAMPLES
"""Coverage of a pixel that lies wholly inside."""


def coverage(outline: Outline, width: int, height: int) -> UInt8:
    """Compute the coverage of each pixel by a shape that just fits a box.

    Args:
        outline: The shape.
        width: Width of the box in pixels.
        height: Height of the box in pixels.

    Returns:
        (height, width) uint8, 0..FULL: the number of samples inside, of SAMPLES x SAMPLES in a pixel.
    """
    # Samples stand at odd multiples of 1/8 pixel from the centre; a and b are the half sides in that unit.
    a, b = SAMPLES * width, SAMPLES * height
    u = np.arange(1 - a, a, 2, dtype=np.int64)[None, :]
    v = np.arange(1 - b, b, 2, dtype=np.int64)[:, None]
    if outline == "rectangle":
        return np.full((height, width), FULL, dtype=np.uint8)
    inside = _inside(outline, u, v, a, b)
    by_pixel = inside.view(np.uint8).reshape(height, SAMPLES, width * SAMPLES)
    rows = by_pixel[:, 0] + by_pixel[:, 1] + by_pixel[:, 2] + by_pixel[:, 3]
    counts: UInt8 = rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]
    return counts


def _inside(outline: Outline, u: NDArray[np.int64], v: NDArray[np.int64], a: int, b: int) -> NDArray[np.bool_]:
    if outline == "triangle_up":
        return np.abs(u) * (2 * b) <= a * (v + b)
    if outline == "triangle_down":
        return np.abs(u) * (2 * b) <= a * (b - v)
    if outline == "cross":
        # Arms a third of the box wide.
        return (3 * np.abs(u) <= a) | (3 * np.abs(v) <= b)
    # (u/a)^2 + (v/b)^2, times (ab)^2 to stay with integers.
    radius = (u * b) ** 2 + (v * a) ** 2
    outer = radius <= (a * b) ** 2
    if outline == "ring":
        # The hole has 11/20 of the radius.
        return outer & (400 * radius > 121 * (a * b) ** 2)
    return outer


def box_sides(random: PortableRandom, shape: Shape, mask_side: int, least: int) -> tuple[int, int]:
    """Choose width and height of a box whose shape covers about ``mask_side ** 2`` pixels.

    Args:
        random: Source of the proportions.
        shape: The shape with its range of proportions.
        mask_side: Square root of the wanted mask area, pixels.
        least: Least length of the shorter side, pixels.
    """
    ratio = random.between(*shape.ratio)
    area = mask_side * mask_side * 100 // shape.fill
    short = max(isqrt(area * 100 // ratio), least)
    long = short * ratio // 100
    along_x = shape.along == "x" or (shape.along == "either" and random.chance(50))
    return (long, short) if along_x else (short, long)


def crowd_coverage(random: PortableRandom, shape: Shape, crowd: Crowd) -> UInt8:
    """Compute the coverage of a loose grid of small shapes, in the form of `coverage`."""
    columns, rows = random.between(*crowd.columns), random.between(*crowd.rows)
    width, height = _member_sides(random, shape, crowd.member_side)
    member = coverage(shape.outline, width, height)
    step_x, step_y = width + crowd.gap, height + crowd.gap
    group = np.zeros((rows * step_y, columns * step_x), dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            x = column * step_x + random.between(0, crowd.gap)
            y = row * step_y + random.between(0, crowd.gap)
            group[y : y + height, x : x + width] = member
    return group


def _member_sides(random: PortableRandom, shape: Shape, side: Range) -> tuple[int, int]:
    short = random.between(*side)
    return box_sides(random, shape, 1, short)
