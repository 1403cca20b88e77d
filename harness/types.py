"""Records that pass between the stages: small, frozen, of NumPy arrays, the same on every device.

``image -> preprocess -> Batch -> device.run -> Heads -> decode -> Detections -> to image space -> COCO results``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""

Outputs = Mapping[str, NDArray[np.floating]]
"""The output tensors of a device by their own names, in their own order."""


Heads = Mapping[str, NDArray[np.floating]]
"""The network's heads by name, in the order of the model card, each (N, channels, h, w) on the output grid.

CenterNet's are

hm
    (N, classes, h, w), logits or probabilities as the model card says.
wh
    (N, 2, h, w) box width and height for a ``wh+reg`` model; (N, 4, h, w) distances left, top, right, bottom for an
    ``ltrb`` model.
reg
    (N, 2, h, w) sub-cell offset (x, y) of the centre in grid cells; absent where the model has no such head.
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of an image in the network input.

    Attributes:
        forward: (2, 3) float64, maps image pixels (x, y, 1) to pixels of the network input.
        inverse: (2, 3) float64, maps pixels of the network input to image pixels.
        image_size: (width, height) of the image in pixels.
        input_size: (width, height) of the network input in pixels.
    """

    forward: Float64
    inverse: Float64
    image_size: tuple[int, int]
    input_size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Preprocessed images of one size.

    Attributes:
        images: (N, 3, H, W) or (N, H, W, 3) as the model card says, in the card's dtype, C-contiguous.
        image_ids: COCO ids of the first ``len(image_ids)`` slots; slots beyond them are padding and not images.
        placements: One per image.
    """

    images: NDArray[np.generic]
    image_ids: tuple[int, ...]
    placements: tuple[Placement, ...]

    def __post_init__(self) -> None:
        if not len(self.image_ids) == len(self.placements) <= len(self.images):
            raise ValueError(
                f"a batch of {len(self.images)} slots cannot hold {len(self.image_ids)} images "
                f"with {len(self.placements)} placements"
            )


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes: (K, 4) float32 x1, y1, x2, y2; in cells of the output grid as `decode` returns them,
            in image pixels after `to_image_space`.
        scores: (K,) float32 in [0, 1], not increasing.
        classes: (K,) int64 channel of the heatmap, 0-based.
    """

    boxes: Float32
    scores: Float32
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)
