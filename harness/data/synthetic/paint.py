"""Painting of a layout in integer arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data.synthetic.layout import SceneLayout, Thing
from harness.data.synthetic.portable_random import PortableRandom
from harness.data.synthetic.shapes import FULL
from harness.data.synthetic.spec import Ground, Spec
from harness.types import UInt8

PAINT_STREAM = 1
TINT_CELL = 7
"""log2 of the cell, in pixels, over which the tint of the ground changes."""


def paint(spec: Spec, split: str, index: int, layout: SceneLayout) -> UInt8:
    """Paint a layout.

    Returns:
        (height, width, 3) uint8, BGR.
    """
    random = PortableRandom(spec.seed, spec.part(split).number, index, PAINT_STREAM)
    canvas = _ground(random, spec.ground, layout.width, layout.height)
    for thing in (*layout.distractors, *layout.objects):
        _blend(canvas, layout, thing)
    span = 2 * spec.ground.noise + 1
    grain = random.octets(canvas.size).reshape(canvas.shape) % np.uint8(span)
    canvas += grain
    canvas -= np.int16(spec.ground.noise)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _ground(random: PortableRandom, ground: Ground, width: int, height: int) -> NDArray[np.int16]:
    grey = np.full((height, width), random.between(*ground.level), dtype=np.int32)
    for cell, amplitude in ground.octaves:
        grey += _around_zero(random, width, height, cell, amplitude)
    canvas = np.empty((height, width, 3), dtype=np.int16)
    canvas[..., 0] = grey + _around_zero(random, width, height, TINT_CELL, ground.tint)
    canvas[..., 1] = grey
    canvas[..., 2] = grey + _around_zero(random, width, height, TINT_CELL, ground.tint)
    return canvas


def _around_zero(random: PortableRandom, width: int, height: int, cell: int, amplitude: int) -> NDArray[np.int32]:
    return ((value_noise(random, width, height, cell) - 128) * amplitude) >> 8


def value_noise(random: PortableRandom, width: int, height: int, cell: int) -> NDArray[np.int32]:
    """Draw random values on a lattice and interpolate bilinearly between its points.

    Args:
        random: Source of the values.
        width: Pixels.
        height: Pixels.
        cell: log2 of the lattice's pitch in pixels.

    Returns:
        (height, width) int32, 0..255.
    """
    pitch = 1 << cell
    rows, columns = (height >> cell) + 2, (width >> cell) + 2
    lattice = random.octets(rows * columns).reshape(rows, columns).astype(np.int32)
    x, y = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)
    i, j = x >> cell, y >> cell
    u, v = x & (pitch - 1), (y & (pitch - 1))[:, None]
    lines = lattice[:, i] * (pitch - u) + lattice[:, i + 1] * u
    values: NDArray[np.int32] = (lines[j] * (pitch - v) + lines[j + 1] * v) >> (2 * cell)
    return values


def _blend(canvas: NDArray[np.int16], layout: SceneLayout, thing: Thing) -> None:
    window, part = layout.window(thing)
    share = part.astype(np.int16)[..., None]
    colour = np.array(thing.bgr, dtype=np.int16)
    under = canvas[window]
    canvas[window] = (under * (FULL - share) + colour * share + FULL // 2) // FULL
