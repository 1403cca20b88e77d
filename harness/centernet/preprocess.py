"""Preprocessing of an image to the network input by the model card.

The geometries and their sources:

========= ====================================================================================================
affine    The official CenterNet (``get_affine_transform`` without rotation, ``cv2.warpAffine``): the square around
          the image, its side the longer image side, is scaled to the input width. With ``keep_res`` the image keeps
          its resolution and lies centred in sides of ``(side | 31) + 1``.
letterbox Resized by the largest factor that fits and centred; an odd remainder leaves the larger margin right or
          below. Pixels and boxes are scaled by that very factor, though the sides are whole pixels: resizing to whole
          sides instead, each axis by a factor of its own, costs up to 0.8 points of AP75 where a model was trained
          on the former.
stretch   Resized to the input, whatever the aspect ratio.
========= ====================================================================================================

Boxes are continuous coordinates: the left edge of pixel 0 is 0 for ``letterbox`` and ``stretch``, its centre is 0 for
``affine``, as in the code that models of either kind were trained with. `Placement` carries that, and no other stage
has to know. Pixels beside the image have the card's ``pad_value`` and are normalised like any other.

All functions are pure apart from the array they are told to write, so threads may share a card and fill the slots of
one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.cards.model import Input
from harness.errors import HarnessError
from harness.types import Batch, Float32, Float64, Placement, UInt8


def place(card: ModelCard, image_size: tuple[int, int]) -> Placement:
    """Compute the placement of an image of `image_size` = (width, height) pixels in the network input.

    Raises:
        HarnessError: The image has no pixels.
    """
    width, height = image_size
    if width < 1 or height < 1:
        raise HarnessError(f"an image of {width}x{height} pixels", remedy="leave it out, or get it again")
    spec = card.input
    input_size = ((width | 31) + 1, (height | 31) + 1) if spec.keep_res else (spec.width, spec.height)
    if spec.geometry == "affine":
        centre = (width // 2, height // 2) if spec.keep_res else (width / 2, height / 2)
        # The width alone sets the scale, also where the input is not square: so do the three points of the original.
        sx = sy = 1.0 if spec.keep_res else spec.width / max(width, height)
        tx, ty = input_size[0] / 2 - sx * centre[0], input_size[1] / 2 - sy * centre[1]
    else:
        inner = _inner_size(spec, image_size)
        sx, sy = spec.width / width, spec.height / height
        if spec.geometry == "letterbox":
            sx = sy = min(sx, sy)
        tx, ty = (input_size[0] - inner[0]) // 2, (input_size[1] - inner[1]) // 2
    return Placement(
        forward=np.array([[sx, 0, tx], [0, sy, ty]], np.float64),
        inverse=np.array([[1 / sx, 0, -tx / sx], [0, 1 / sy, -ty / sy]], np.float64),
        image_size=image_size,
        input_size=input_size,
    )


def preprocess(card: ModelCard, image: UInt8) -> tuple[NDArray[np.generic], Placement]:
    """Make the network input of one image.

    Args:
        card: The contract of the model.
        image: (H, W, 3) uint8, BGR.

    Returns:
        (3, H, W) or (H, W, 3) in the card's layout, dtype and channel order, and where the image lies in it.

    Raises:
        HarnessError: The image is not (H, W, 3) uint8, or is empty.
    """
    out = np.empty(input_shape(card, place(card, _size(image))), card.input.dtype)
    return out, preprocess_into(card, image, out)


def preprocess_into(card: ModelCard, image: UInt8, out: NDArray[np.generic]) -> Placement:
    """Write the network input of one image into `out`, such as a slot of a batch.

    Args:
        card: The contract of the model.
        image: (H, W, 3) uint8, BGR.
        out: C-contiguous, of the dtype of the card and the shape `input_shape` gives. Overwritten.

    Raises:
        HarnessError: The image is not (H, W, 3) uint8, or is empty.
        ValueError: `out` is not as described.
    """
    placement = place(card, _size(image))
    expected = input_shape(card, placement)
    # OpenCV would quietly write somewhere else.
    if out.shape != expected or out.dtype != card.input.dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be C-contiguous {card.input.dtype} of shape {expected}; it is {out.dtype} of shape {out.shape}"
        )
    _normalise_into(card.input, _resample(card.input, image, placement), out)
    return placement


def make_batch(card: ModelCard, images: Sequence[tuple[int, UInt8]], *, slots: int | None = None) -> Batch:
    """Preprocess images into one array.

    Args:
        card: The contract of the model.
        images: (COCO image id, (H, W, 3) uint8 BGR image), at least one.
        slots: Size of a static batch; slots beyond the images are zero.

    Raises:
        HarnessError: An image is not (H, W, 3) uint8 or is empty, or the images of a ``keep_res`` model differ in size.
        ValueError: No images, or more than `slots`.
    """
    slots = len(images) if slots is None else slots
    if not 0 < len(images) <= slots:
        raise ValueError(f"{len(images)} images do not make a batch of {slots}")
    shapes = {input_shape(card, place(card, _size(image))) for _, image in images}
    if len(shapes) > 1:
        raise HarnessError(
            f"images of one batch need one input shape; theirs are {sorted(shapes)}",
            field="input.keep_res",
            remedy="run a keep_res model with batch size 1",
        )
    batch = np.empty((slots, *shapes.pop()), card.input.dtype)
    batch[len(images) :] = 0
    placements = tuple(preprocess_into(card, image, slot) for (_, image), slot in zip(images, batch, strict=False))
    return Batch(batch, tuple(image_id for image_id, _ in images), placements)


def input_shape(card: ModelCard, placement: Placement) -> tuple[int, int, int]:
    """Return the shape of one network input, without the batch dimension."""
    width, height = placement.input_size
    return (3, height, width) if card.input.layout == "NCHW" else (height, width, 3)


def _size(image: UInt8) -> tuple[int, int]:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else repr(image)
        raise HarnessError(
            f"an image must be uint8 of shape (height, width, 3); this is {found}",
            remedy="read it with cv2.imread(path, cv2.IMREAD_COLOR), which returns None for what it cannot read",
        )
    return image.shape[1], image.shape[0]


def _inner_size(spec: Input, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) to which `letterbox` and `stretch` resize the image."""
    if spec.geometry == "stretch":
        return spec.width, spec.height
    width, height = image_size
    scale = min(spec.width / width, spec.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resample(spec: Input, image: UInt8, placement: Placement) -> MatLike:
    """Compute the (H, W, 3) uint8 pixels of the network input in the card's channel order."""
    width, height = placement.input_size
    grey = (spec.pad_value,) * 3
    if spec.geometry == "affine":
        pixels = cv2.warpAffine(image, placement.forward, (width, height), borderValue=grey)
    else:
        inner = _inner_size(spec, placement.image_size)
        left, top = placement.forward[:, 2].astype(int).tolist()
        right, bottom = width - inner[0] - left, height - inner[1] - top
        pixels = _resize(image, inner, placement) if spec.geometry == "letterbox" else cv2.resize(image, inner)
        pixels = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if spec.channel_order == "RGB" else pixels


def _resize(image: UInt8, size: tuple[int, int], placement: Placement) -> MatLike:
    """Scale `image` by the factor of the placement, cut to `size` whole pixels."""
    factor = float(placement.forward[0, 0])
    if round(min(image.shape[:2]) * factor) < 1:  # rounded up from nothing, which a factor cannot give
        return cv2.resize(image, size)
    return cv2.resize(image, None, fx=factor, fy=factor)


def _normalise_into(spec: Input, pixels: MatLike, out: NDArray[Any]) -> None:
    planar = spec.layout == "NCHW"
    if spec.dtype == "uint8":
        for source, target in zip(cv2.split(pixels), out, strict=True) if planar else [(pixels, out)]:
            target[...] = source
        return
    table = _table(spec)
    if not planar:
        cv2.LUT(pixels, table[None], dst=out)
        return
    for channel, plane in enumerate(cv2.split(pixels)):
        cv2.LUT(plane, np.ascontiguousarray(table[:, channel]), dst=out[channel])


def _table(spec: Input) -> Float32:
    """Return (256, 3) float32, the normalised value of each pixel value by channel; ``(pixel * scale - mean) / std``.

    A pixel has 256 values, so a table is exact, the same on every machine, and as fast as arithmetic on every pixel.
    """
    levels = np.arange(256, dtype=np.float64)[:, None] * spec.scale
    normalised: Float64 = (levels - spec.mean) / spec.std
    return normalised.astype(np.float32)
