"""Training samples of CenterNet2: a resized and perhaps mirrored image with its boxes, a function of (seed, number)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from harness.cards import Augmentation
from harness.centernet2.boxes import clipped, has_area
from harness.data.dataset import Annotation, Dataset, first_few
from harness.errors import HarnessError
from harness.training.order import place_of
from harness.types import Float32, UInt8

LEAST_SIDE = 1e-5
"""Pixels that a box must be wider and higher than, measured in float32."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample.

    Attributes:
        image: (3, h, w) uint8 BGR, neither normalised nor padded.
        boxes: (n, 4) float32 x1, y1, x2, y2 in pixels of `image`, within it; n may be 0.
        classes: (n,) int64, 0-based.
    """

    image: UInt8
    boxes: Float32
    classes: NDArray[np.int64]


def resized_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Return the (height, width) of an image whose shorter side becomes `shortest` pixels.

    Where the longer side would then have more than `longest`, both shrink so that it has exactly that many. Sides are
    rounded half up, to 1 pixel at least.
    """
    scale = shortest / min(height, width)
    new = [scale * height, scale * width]
    new[0 if height < width else 1] = shortest  # without the rounding of the product
    if max(new) > longest:
        shrink = longest / max(new)
        new = [side * shrink for side in new]
    return max(1, int(new[0] + 0.5)), max(1, int(new[1] + 0.5))


def make_sample(
    image: UInt8, boxes: Sequence[Sequence[float]], classes: Sequence[int], size: tuple[int, int], *, flip: bool
) -> Sample:
    """Resize an image with its boxes, and mirror them.

    Pixels are interpolated by Pillow's bilinear filter, which blurs where it shrinks, as the official code does.
    Boxes are clipped to the image; those that are outside, or have no width or height, are dropped.

    Args:
        image: (height, width, 3) uint8 BGR.
        boxes: x, y (top left), width, height of each object in pixels of `image`.
        classes: Of each object, 0-based.
        size: (height, width) of the sample.
        flip: Whether left and right change places.
    """
    height, width = size
    pixels = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners *= np.tile((width / image.shape[1], height / image.shape[0]), 2)
    if flip:
        pixels = pixels[:, ::-1]
        corners[:, [0, 2]] = width - corners[:, [2, 0]]
    placed = np.clip(corners, 0, np.tile((width, height), 2)).astype(np.float32)
    kept = (placed[:, 2:] - placed[:, :2] > LEAST_SIDE).all(axis=1)
    # The centre of a sliver at the edge can be rounded to the edge itself, where no cell is.
    kept &= ((placed[:, :2] + placed[:, 2:]) / 2 < (width, height)).all(axis=1)
    channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return Sample(channels_first, placed[kept], np.array(classes, np.int64)[kept])


class Samples(TorchDataset[Sample]):
    """Samples of every image that shows an object which is no crowd; crowds are never asked for.

    Args:
        dataset: Images and annotations.
        category_ids: Data-set category of each class.
        augmentation: Edges and flips to draw from.
        seed: Seed of all random choices, together with the number of the sample.

    Raises:
        HarnessError: No image shows an object, or one is of a category that is no class.
    """

    def __init__(self, dataset: Dataset, category_ids: Sequence[int], augmentation: Augmentation, seed: int) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.class_of = {id_: class_ for class_, id_ in enumerate(category_ids)}
        self.annotations: dict[int, list[Annotation]] = defaultdict(list)
        _require_known(dataset, self.class_of)
        for annotation in dataset.instances.annotations:
            if not annotation.iscrowd:
                self.annotations[annotation.image_id].append(annotation)
        self.image_ids = tuple(image_id for image_id in dataset.image_ids if image_id in self.annotations)
        if not self.image_ids:
            raise HarnessError(
                f"none of {len(dataset)} images shows an object of the {len(self.class_of)} classes that is no crowd",
                file=dataset.folder,
                field="annotations",
                remedy="give annotations of the categories on the model card",
            )

    @cached_property
    def without_area(self) -> int:
        """The number of objects that lie outside their image, or have no width or height: no sample shows them."""
        count = 0
        for image_id in self.image_ids:
            width, height = self.dataset.size(image_id)
            boxes = torch.tensor([one.bbox for one in self.annotations[image_id]], dtype=torch.float64)
            boxes[:, 2:] += boxes[:, :2]
            count += int((~has_area(clipped(boxes, height, width))).sum())
        return count

    def image_id(self, number: int) -> int:
        """Return the image of a sample: every image once an epoch, in another order each epoch."""
        return self.image_ids[place_of(number, len(self.image_ids), self.seed)]

    def is_wide(self, number: int) -> bool:
        """Tell whether the image of a sample is wider than high."""
        width, height = self.dataset.size(self.image_id(number))
        return width > height

    def __getitem__(self, number: int) -> Sample:
        random = np.random.default_rng((self.seed, 1, number))
        image_id = self.image_id(number)
        image = self.dataset.read_image(image_id)
        drawn = self.augmentation
        shortest = drawn.shortest_edges[random.integers(len(drawn.shortest_edges))]
        flip = bool(random.random() < drawn.flip)
        size = resized_size(image.shape[0], image.shape[1], shortest, drawn.longest_edge)
        found = self.annotations[image_id]
        boxes, classes = [each.bbox for each in found], [self.class_of[each.category_id] for each in found]
        return make_sample(image, boxes, classes, size, flip=flip)


def _require_known(dataset: Dataset, known: Collection[int]) -> None:
    """Refuse a data set with objects of categories that the model has no class for."""
    others = sorted({annotation.category_id for annotation in dataset.instances.annotations} - set(known))
    if others:
        raise HarnessError(
            f"objects are of categories that are no class of the model: {first_few(others)}",
            file=dataset.folder,
            field="annotations",
            remedy="give a model card with these category_ids, or remove these annotations",
        )
