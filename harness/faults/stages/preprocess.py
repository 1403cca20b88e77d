"""Preprocessing of a port: its specification and its computation; `preprocess_faults` holds the known mistakes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.preprocess import place, preprocess
from harness.faults.fault import FaultStage
from harness.types import Float64, Placement, UInt8

Triple = tuple[float, float, float]
Image = NDArray[Any]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """Specification of the network input that a port computes.

    Attributes:
        swapped: The channels are fed in the other order.
        mean: Instead of the card's, in the card's channel order.
        std: Instead of the card's, in the card's channel order.
        reversed_statistics: Mean and std are in the other channel order.
        factor: On the card's scale: 255 if the division is missing, 1/255 if it is done twice.
        normalised: How often mean and std are applied.
        geometry: Instead of the card's.
        integer_centre: The affine's centre is ``w // 2`` instead of ``w / 2``.
        pad_normalised: Pixels beside the image are 0 after normalisation.
        pad_value: Grey level beside the image, instead of the card's.
        shift: By so many pixels of the network input the image lies further right and down.
        nearest: Pixels are picked, not interpolated.
        corner: The image lies in the upper left corner, not in the middle.
        cropped: The shorter side fills the input and the longer side is cut.
        interleaved: The buffer holds (y, x, channel) where the network reads (channel, y, x), or the other way round.
        integers: Normalised values are truncated to integers.
    """

    stage: ClassVar[FaultStage] = "preprocess"

    swapped: bool = False
    mean: Triple | None = None
    std: Triple | None = None
    reversed_statistics: bool = False
    factor: float = 1.0
    normalised: int = 1
    geometry: Literal["affine", "letterbox", "stretch"] | None = None
    integer_centre: bool = False
    pad_normalised: bool = False
    pad_value: int | None = None
    shift: float = 0.0
    nearest: bool = False
    corner: bool = False
    cropped: bool = False
    interleaved: bool = False
    integers: bool = False


RIGHT = PreprocessSpec()


def prepare(card: ModelCard, spec: PreprocessSpec, image: UInt8) -> tuple[Image, Placement]:
    """Compute the network input of one image, and where the port takes the image to lie.

    Args:
        card: The contract that the port should keep.
        spec: How it computes this stage.
        image: (H, W, 3) uint8, BGR.
    """
    if spec == RIGHT:
        return preprocess(card, image)
    own = _own_card(card, spec)
    placement = _place(own, spec, (image.shape[1], image.shape[0]))
    pixels, inside = _resample(own, spec, image, placement)
    values = _normalise(own, spec, pixels)
    if spec.pad_normalised:
        values[~inside] = 0
    if spec.integers:
        values = np.trunc(values)
    values = values.astype(card.input.dtype)
    if card.input.layout == "NCHW":
        planar = np.ascontiguousarray(values.transpose(2, 0, 1))
        return (values.reshape(planar.shape) if spec.interleaved else planar), placement
    planar = np.ascontiguousarray(values.transpose(2, 0, 1))
    return (planar.reshape(values.shape) if spec.interleaved else values), placement


def _own_card(card: ModelCard, spec: PreprocessSpec) -> ModelCard:
    """Change the card to what the port takes it for."""
    wanted = card.input
    other = {"BGR": "RGB", "RGB": "BGR"}[wanted.channel_order]
    mean, std = spec.mean or wanted.mean, spec.std or wanted.std
    changes = {
        "geometry": spec.geometry or wanted.geometry,
        "channel_order": other if spec.swapped else wanted.channel_order,
        "mean": mean[::-1] if spec.reversed_statistics else mean,
        "std": std[::-1] if spec.reversed_statistics else std,
        "scale": wanted.scale * spec.factor,
        "pad_value": wanted.pad_value if spec.pad_value is None else spec.pad_value,
    }
    return card.model_copy(update={"input": wanted.model_copy(update=changes)})


def _place(card: ModelCard, spec: PreprocessSpec, image_size: tuple[int, int]) -> Placement:
    placement = place(card, image_size)
    width, height = placement.input_size
    matrix = placement.forward.copy()
    if spec.cropped:
        matrix[0, 0] = matrix[1, 1] = max(width / image_size[0], height / image_size[1])
        for axis in (0, 1):
            matrix[axis, 2] = (placement.input_size[axis] - matrix[axis, axis] * image_size[axis]) / 2
    if spec.corner:
        matrix[:, 2] = 0
    if spec.integer_centre:
        # The centre that is half a pixel off, scaled, is where the input's centre then lies.
        matrix[:, 2] += [matrix[axis, axis] * (image_size[axis] % 2) / 2 for axis in (0, 1)]
    matrix[:, 2] += spec.shift
    return replace(placement, forward=matrix, inverse=_inverse(matrix))


def _inverse(matrix: Float64) -> Float64:
    sx, sy, (tx, ty) = matrix[0, 0], matrix[1, 1], matrix[:, 2]
    return np.array([[1 / sx, 0, -tx / sx], [0, 1 / sy, -ty / sy]], np.float64)


def _resample(
    card: ModelCard, spec: PreprocessSpec, image: UInt8, placement: Placement
) -> tuple[Image, NDArray[np.bool_]]:
    """Sample the pixels of the network input, (H, W, 3) in the card's channel order, and mask those of the image."""
    wanted = card.input
    pixels: Image
    moved = spec.shift or spec.corner or spec.cropped or spec.integer_centre or spec.nearest
    if moved:
        matrix = placement.forward.copy()
        if wanted.geometry != "affine":  # their edge of pixel 0 is 0, the warp's its centre
            matrix[:, 2] += [(matrix[axis, axis] - 1) / 2 for axis in (0, 1)]
        flags = cv2.INTER_NEAREST if spec.nearest else cv2.INTER_LINEAR
        pixels = cv2.warpAffine(image, matrix, placement.input_size, flags=flags, borderValue=(wanted.pad_value,) * 3)
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if wanted.channel_order == "RGB" else pixels
    else:
        raw = {"layout": "NHWC", "dtype": "uint8", "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
        plain = card.model_copy(update={"input": wanted.model_copy(update=raw)})
        pixels = preprocess(plain, image)[0]
    return pixels, _inside(placement)


def _inside(placement: Placement) -> NDArray[np.bool_]:
    rows, columns = np.indices(placement.input_size[::-1])
    x = placement.inverse[0, 0] * columns + placement.inverse[0, 2]
    y = placement.inverse[1, 1] * rows + placement.inverse[1, 2]
    width, height = placement.image_size
    inside: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return inside


def _normalise(card: ModelCard, spec: PreprocessSpec, pixels: Image) -> Image:
    wanted = card.input
    values = pixels.astype(np.float64) * wanted.scale
    for _ in range(spec.normalised):
        values = (values - wanted.mean) / wanted.std
    return values.astype(np.float32)
