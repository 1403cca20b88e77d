"""Preprocessing as a port may do it: right, or with one of the known mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.preprocess import place, preprocess
from harness.faults.forms import PrepForm
from harness.types import Float64, Placement, UInt8

Image = NDArray[Any]

RIGHT = PrepForm()


def prepare(card: ModelCard, form: PrepForm, image: UInt8) -> tuple[Image, Placement]:
    """The network input that a port of this form makes, and where it believes the image to lie.

    Args:
        card: The contract that the port should keep.
        form: What it does instead.
        image: (H, W, 3) uint8, BGR.
    """
    if form == RIGHT:
        return preprocess(card, image)
    own = _own_card(card, form)
    placement = _place(own, form, (image.shape[1], image.shape[0]))
    pixels, inside = _resample(own, form, image, placement)
    values = _normalise(own, form, pixels)
    if form.pad_normalised:
        values[~inside] = 0
    if form.integers:
        values = np.trunc(values)
    values = values.astype(card.input.dtype)
    if card.input.layout == "NCHW":
        planar = np.ascontiguousarray(values.transpose(2, 0, 1))
        return (values.reshape(planar.shape) if form.interleaved else planar), placement
    planar = np.ascontiguousarray(values.transpose(2, 0, 1))
    return (planar.reshape(values.shape) if form.interleaved else values), placement


def _own_card(card: ModelCard, form: PrepForm) -> ModelCard:
    """The card as the port has read it."""
    spec = card.input
    other = {"BGR": "RGB", "RGB": "BGR"}[spec.channel_order]
    mean, std = form.mean or spec.mean, form.std or spec.std
    changes = {
        "geometry": form.geometry or spec.geometry,
        "channel_order": other if form.swapped else spec.channel_order,
        "mean": mean[::-1] if form.reversed_statistics else mean,
        "std": std[::-1] if form.reversed_statistics else std,
        "scale": spec.scale * form.factor,
        "pad_value": spec.pad_value if form.pad_value is None else form.pad_value,
    }
    return card.model_copy(update={"input": spec.model_copy(update=changes)})


def _place(card: ModelCard, form: PrepForm, image_size: tuple[int, int]) -> Placement:
    placement = place(card, image_size)
    width, height = placement.input_size
    matrix = placement.forward.copy()
    if form.cropped:
        matrix[0, 0] = matrix[1, 1] = max(width / image_size[0], height / image_size[1])
        for axis in (0, 1):
            matrix[axis, 2] = (placement.input_size[axis] - matrix[axis, axis] * image_size[axis]) / 2
    if form.corner:
        matrix[:, 2] = 0
    if form.integer_centre:
        # The centre that is half a pixel off, scaled, is where the input's centre then lies.
        matrix[:, 2] += [matrix[axis, axis] * (image_size[axis] % 2) / 2 for axis in (0, 1)]
    matrix[:, 2] += form.shift
    return replace(placement, forward=matrix, inverse=_inverse(matrix))


def _inverse(matrix: Float64) -> Float64:
    sx, sy, (tx, ty) = matrix[0, 0], matrix[1, 1], matrix[:, 2]
    return np.array([[1 / sx, 0, -tx / sx], [0, 1 / sy, -ty / sy]], np.float64)


def _resample(card: ModelCard, form: PrepForm, image: UInt8, placement: Placement) -> tuple[Image, NDArray[np.bool_]]:
    """Pixels of the network input, (H, W, 3) in the card's channel order, and which of them are of the image."""
    spec = card.input
    pixels: Image
    moved = form.shift or form.corner or form.cropped or form.integer_centre or form.nearest
    if moved:
        matrix = placement.forward.copy()
        if spec.geometry != "affine":  # their edge of pixel 0 is 0, the warp's its centre
            matrix[:, 2] += [(matrix[axis, axis] - 1) / 2 for axis in (0, 1)]
        flags = cv2.INTER_NEAREST if form.nearest else cv2.INTER_LINEAR
        pixels = cv2.warpAffine(image, matrix, placement.input_size, flags=flags, borderValue=(spec.pad_value,) * 3)
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if spec.channel_order == "RGB" else pixels
    else:
        raw = {"layout": "NHWC", "dtype": "uint8", "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
        plain = card.model_copy(update={"input": spec.model_copy(update=raw)})
        pixels = preprocess(plain, image)[0]
    return pixels, _inside(placement)


def _inside(placement: Placement) -> NDArray[np.bool_]:
    rows, columns = np.indices(placement.input_size[::-1])
    x = placement.inverse[0, 0] * columns + placement.inverse[0, 2]
    y = placement.inverse[1, 1] * rows + placement.inverse[1, 2]
    width, height = placement.image_size
    inside: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return inside


def _normalise(card: ModelCard, form: PrepForm, pixels: Image) -> Image:
    spec = card.input
    values = pixels.astype(np.float64) * spec.scale
    for _ in range(form.normalised):
        values = (values - spec.mean) / spec.std
    return values.astype(np.float32)
