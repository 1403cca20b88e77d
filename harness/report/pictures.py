"""Pictures of a report, from plain arrays: photographs with boxes, and heat maps, as data URIs within the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.types import UInt8

LONGEST = 560
"""Pixels of the longer side of a photograph."""
QUALITY = 72
"""Of JPEG."""
LARGEST_MAP = 256
"""Cells of the longer side of a heat map beyond which it is made smaller."""
PAGE_BYTES = 3_000_000
"""Most of all pictures of a page."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box on a photograph.

    Attributes:
        x: Left edge in image pixels, as the others.
        y: Upper edge.
        width: Of the box.
        height: Of the box.
        label: Class, with the score where it has one.
        differs: Whether the other side has none such.
    """

    x: float
    y: float
    width: float
    height: float
    label: str
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Photo:
    """An image with the boxes of both sides and the truth.

    Attributes:
        name: Of the image.
        size: Its width and height in pixels.
        source: Data URI.
        truth: Annotated objects.
        sides: Name of each side, "reference" and "device", and its detections.
        told: How they differ.
    """

    name: str
    size: tuple[int, int]
    source: str
    truth: tuple[Box, ...]
    sides: tuple[tuple[str, tuple[Box, ...]], ...]
    told: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One channel of a head, or the maximum over several.

    Attributes:
        title: Whose it is.
        source: Data URI.
        size: Width and height in cells.
        low: Value that is drawn darkest.
        high: Value that is drawn brightest.
    """

    title: str
    source: str
    size: tuple[int, int]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Maps:
    """A head that deviates, in one image: of the reference, of the device, and the difference.

    Attributes:
        head: Its name, with what is drawn of it.
        name: Of the image.
        maps: The three.
    """

    head: str
    name: str
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True, slots=True)
class RunPictures:
    """Pictures of one run.

    Attributes:
        batch_size: Of the run over all images that they are of.
        photos: Images in which device and reference disagree most, the worst first.
        maps: Of a head that deviates; None where none does, or there are no heads.
        note: What is to be said of pictures that are not there; empty where they are.
    """

    batch_size: int
    photos: tuple[Photo, ...] = ()
    maps: Maps | None = None
    note: str = ""

    @property
    def bytes(self) -> int:
        """Bytes that the pictures take in a page."""
        sources = [one.source for one in self.photos]
        sources += [] if self.maps is None else [one.source for one in self.maps.maps]
        return sum(map(len, sources))


Pictures = Mapping[tuple[str, str], RunPictures]
"""Of the runs of a document, by device and precision."""


def photograph(image: UInt8) -> str:
    """Make an image (H, W, 3) BGR smaller where it is large, and return it as the URI of a JPEG."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return _uri("jpeg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def heat_maps(reference: NDArray[np.floating], device: NDArray[np.floating]) -> tuple[HeatMap, HeatMap, HeatMap]:
    """Draw two maps (h, w) on one scale, and the size of their difference on its own."""
    ours, theirs = (values.astype(np.float64) for values in (reference, device))
    scale = (float(min(ours.min(), theirs.min())), float(max(ours.max(), theirs.max())))
    apart = np.abs(theirs - ours)
    return (
        _heat_map("reference", ours, scale),
        _heat_map("device", theirs, scale),
        _heat_map("difference", apart, (0.0, float(apart.max()))),
    )


def _heat_map(title: str, values: NDArray[np.float64], scale: tuple[float, float]) -> HeatMap:
    low, high = scale
    grey: UInt8 = np.clip((values - low) / ((high - low) or 1.0) * 255, 0, 255).round().astype(np.uint8)
    height, width = grey.shape
    shrink = max(height, width) / LARGEST_MAP
    if shrink > 1:
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    # Viridis is read by the colour-blind as well, and in grey: bright is high.
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)
    return HeatMap(title, _uri("png", coloured, [cv2.IMWRITE_PNG_COMPRESSION, 9]), (width, height), low, high)


def _uri(kind: str, image: NDArray[np.generic], settings: Sequence[int]) -> str:
    encoded = cv2.imencode(f".{kind}", np.asarray(image, np.uint8), settings)[1]
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"
