"""Usual ways to prepare an image for a CenterNet, in the order in which they are the more usual."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.cards.model import Input
from harness.run.card_draft.port import Port

Order = Literal["BGR", "RGB"]
Geometry = Literal["affine", "letterbox", "stretch"]
ORDERS: tuple[Order, ...] = ("BGR", "RGB")
GEOMETRIES: tuple[Geometry, ...] = ("affine", "letterbox", "stretch")


@dataclass(frozen=True, slots=True)
class Pixels:
    """Normalisation of pixels: ``(pixel * scale - mean) / std``.

    Attributes:
        name: As people call it.
        scale: Factor on 0..255.
        mean: Of R, G and B after the factor.
        std: Of R, G and B after the factor.
    """

    name: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


BYTE = 1 / 255
RAW = Pixels("0..255", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PIXELS = (
    # The official CenterNet states these for BGR.
    Pixels(
        "CenterNet's mean and std of COCO",
        BYTE,
        (0.47026115, 0.44719302, 0.40789654),
        (0.27809835, 0.27408164, 0.28863828),
    ),
    Pixels("ImageNet's mean and std", BYTE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Pixels("0..1", BYTE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    Pixels("-1..1", BYTE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    RAW,
    Pixels("0..255 less ImageNet's mean", 1.0, (123.675, 116.28, 103.53), (1.0, 1.0, 1.0)),
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """One way to prepare an image.

    Attributes:
        order: Of the channels.
        pixels: Their normalisation.
        geometry: Placement in the network input.
        keep_res: Whether an image keeps its resolution.
    """

    order: Order
    pixels: Pixels
    geometry: Geometry
    keep_res: bool = False

    @property
    def placement(self) -> str:
        """Name of geometry and keep_res together."""
        return "affine, keep_res" if self.keep_res else self.geometry

    def input_of(self, port: Port) -> Input:
        """The input of a card that says this."""
        step = -1 if self.order == "BGR" else 1
        red, green, blue = self.pixels.mean[::step]
        std_red, std_green, std_blue = self.pixels.std[::step]
        return Input(
            name=port.input.name,
            height=port.sides[0],
            width=port.sides[1],
            layout=port.layout,
            dtype="uint8" if port.input.dtype == "uint8" else "float32",
            channel_order=self.order,
            scale=self.pixels.scale,
            mean=(red, green, blue),
            std=(std_red, std_green, std_blue),
            geometry=self.geometry,
            keep_res=self.keep_res,
        )


def colours_of(port: Port) -> list[Preparation]:
    """Every channel order with every normalisation that the dtype of the input admits, in the first geometry."""
    pixels = (RAW,) if port.input.dtype == "uint8" else PIXELS
    return [Preparation(order, one, GEOMETRIES[0]) for order in ORDERS for one in pixels]


def geometries_of(port: Port, found: Preparation) -> list[Preparation]:
    """The same colours in every geometry that the input admits."""
    ways = [replace(found, geometry=geometry, keep_res=False) for geometry in GEOMETRIES]
    kept = [replace(found, geometry="affine", keep_res=True)] if port.open_sides and port.batch in (None, 1) else []
    return ways + kept
