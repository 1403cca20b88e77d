"""The layout of a generated image: places of the shapes and their occlusions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.data.synthetic.shapes import FULL
from harness.data.synthetic.spec import DrawnClass
from harness.types import UInt8

NOBODY = -1


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape at a position.

    Attributes:
        left: Column of the coverage's first pixel in the image; may be negative.
        top: Row of the coverage's first pixel; may be negative.
        coverage: (h, w) 0..FULL.
        bgr: Colour, 0..255 each.
    """

    left: int
    top: int
    coverage: UInt8
    bgr: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Object(Thing):
    """A thing that is annotated.

    Attributes:
        drawn: Its class.
        crowd: The object is a whole group.
    """

    drawn: DrawnClass
    crowd: bool


@dataclass(slots=True)
class SceneLayout:
    """An image before it is painted.

    Attributes:
        width: Pixels.
        height: Pixels.
        distractors: Grey shapes under the objects.
        objects: In the order of painting: later ones hide earlier ones.
        owner: (height, width) int16 index of the visible object of each pixel, or NOBODY.
    """

    width: int
    height: int
    distractors: list[Thing] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    owner: NDArray[np.int16] = field(init=False)

    def __post_init__(self) -> None:
        self.owner = np.full((self.height, self.width), NOBODY, dtype=np.int16)

    def window(self, thing: Thing) -> tuple[tuple[slice, slice], UInt8]:
        """Return the (rows, columns) of the image under the box of a thing, and the coverage in them."""
        h, w = thing.coverage.shape
        x1, y1 = max(thing.left, 0), max(thing.top, 0)
        x2, y2 = min(thing.left + w, self.width), min(thing.top + h, self.height)
        rows, columns = slice(y1, y2), slice(x1, x2)
        part = thing.coverage[y1 - thing.top : y2 - thing.top, x1 - thing.left : x2 - thing.left]
        return (rows, columns), part

    def visible(self, index: int) -> NDArray[np.bool_]:
        """Return the visible mask of an object within its window."""
        window, _ = self.window(self.objects[index])
        mask: NDArray[np.bool_] = self.owner[window] == index
        return mask

    def add(self, thing: Object, visible_percent: int) -> bool:
        """Put an object on top, unless it would hide another object too much or lies too far outside the image.

        Objects of one colour do not overlap: the border between them would not show.

        Args:
            thing: The object.
            visible_percent: Least share of an object's whole mask that must stay visible.

        Returns:
            True if the object was added.
        """
        window, part = self.window(thing)
        mask = covers(part)
        if 100 * int(mask.sum()) < visible_percent * int(covers(thing.coverage).sum()):
            return False
        owners, hidden = np.unique(self.owner[window][mask], return_counts=True)
        for index, count in zip(owners.tolist(), hidden.tolist(), strict=True):
            if index == NOBODY:
                continue
            below = self.objects[index]
            rest = int(self.visible(index).sum()) - count
            whole = int(covers(below.coverage).sum())
            if below.drawn.colour == thing.drawn.colour or 100 * rest < visible_percent * whole:
                return False
        self.owner[window][mask] = len(self.objects)
        self.objects.append(thing)
        return True


def covers(part: UInt8) -> NDArray[np.bool_]:
    """Return the mask of the pixels that count as the object's: those covered by half or more."""
    return part >= FULL // 2
