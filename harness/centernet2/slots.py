"""Objects and boxes of a batch in fixed numbers of slots, as chips and compilers with static shapes need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from harness.cards.recipe import StaticShapes
from harness.centernet2.labels import Truth
from harness.errors import HarnessError

EMPTY = -1
"""Class of a slot without detection."""


class StaticTruth(NamedTuple):
    """Objects of a batch in a fixed number of slots.

    Attributes:
        boxes: (N, T, 4) x1, y1, x2, y2 in pixels of the network input; 0 where a slot is empty.
        classes: (N, T) int64.
        valid: (N, T) bool, whether a slot holds an object.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class Slots(NamedTuple):
    """Boxes of a batch in a fixed number of slots.

    Attributes:
        boxes: (N, B, 4).
        scores: (N, B), 0 where a slot is empty.
        valid: (N, B) bool.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


def in_slots(objects: Sequence[Truth], caps: StaticShapes, device: torch.device) -> StaticTruth:
    """Put the objects of each image into slots.

    Raises:
        HarnessError: An image has more objects than slots: which of them should be left out is nobody's to guess.
    """
    count = len(objects)
    truth = StaticTruth(
        torch.zeros(count, caps.truth, 4),
        torch.zeros(count, caps.truth, dtype=torch.int64),
        torch.zeros(count, caps.truth, dtype=torch.bool),
    )
    truth = StaticTruth(*(part.to(device) for part in truth))
    for image, own in enumerate(objects):
        number = len(own.boxes)
        if number > caps.truth:
            raise too_many_objects(f"image {image} of the batch", number, caps)
        truth.boxes[image, :number] = own.boxes
        truth.classes[image, :number] = own.classes
        truth.valid[image, :number] = True
    return truth


def too_many_objects(what: str, number: int, caps: StaticShapes, file: Path | None = None) -> HarnessError:
    """Make the error of an image with more objects than slots."""
    return HarnessError(
        f"{what} has {number} objects, and there are {caps.truth} slots",
        file=file,
        field="static_shapes.truth",
        remedy="give more slots on the recipe card",
    )


def dropped_text(dropped: Tensor, caps: StaticShapes) -> str | None:
    """Say for how many proposals there was no slot; None where there was one for each."""
    most = int(dropped.max())
    if not most:
        return None
    number = int(dropped.sum())
    return f"{number} proposals were dropped, up to {most} of an image: static_shapes.proposals is {caps.proposals}"
