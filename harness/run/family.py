"""The functions of a model family that the pipeline calls, one entry a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.cards import AnyCard, ModelCard, TwoStageCard
from harness.centernet.decode import decode, to_image_space
from harness.centernet.heads import read_heads
from harness.centernet.preprocess import make_batch, place, preprocess
from harness.centernet2 import inference
from harness.types import Batch, Detections, Heads, Outputs, Placement, UInt8

Card = TypeVar("Card", ModelCard, TwoStageCard)
Given = TypeVar("Given", bound=AnyCard, contravariant=True)


class MakeBatch(Protocol[Given]):
    """Preprocesses several images into one array."""

    def __call__(self, card: Given, images: Sequence[tuple[int, UInt8]], *, slots: int | None = None) -> Batch:
        """Preprocess images (COCO id, (H, W, 3) uint8 BGR); slots of the batch beyond them are zero."""


@dataclass(frozen=True, slots=True)
class Family(Generic[Card]):
    """The stages of one model family.

    Attributes:
        preprocess: From an image (H, W, 3) uint8 BGR to the network input and where the image lies in it.
        make_batch: From several images to a batch.
        place: From the (width, height) of an image to where it lies in the network input.
        read_heads: From a device's outputs of a batch of N slots to its heads (N, ...); a two-stage detector gives its
            detections in their place.
        decode: From the heads of a batch to the detections of each sample.
        to_image_space: From detections of one sample to detections in pixels of its image.
    """

    preprocess: Callable[[Card, UInt8], tuple[NDArray[np.generic], Placement]]
    make_batch: MakeBatch[Card]
    place: Callable[[Card, tuple[int, int]], Placement]
    read_heads: Callable[[Card, Outputs, int], Heads]
    decode: Callable[[Card, Heads], list[Detections]]
    to_image_space: Callable[[Card, Detections, Placement], Detections]


ONE_STAGE: Family[ModelCard] = Family(preprocess, make_batch, place, read_heads, decode, to_image_space)
TWO_STAGE: Family[TwoStageCard] = Family(
    inference.preprocess,
    inference.make_batch,
    inference.place,
    inference.read_heads,
    inference.decode,
    inference.to_image_space,
)
FAMILIES: dict[str, Family[Any]] = {"centernet": ONE_STAGE, "centernet2": TWO_STAGE}
"""By the `family` of a model card."""


def family_of(card: AnyCard) -> Family[Any]:
    """The family of a model."""
    return FAMILIES[card.family]
