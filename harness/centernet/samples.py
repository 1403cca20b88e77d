"""Training samples: a random crop of a random image, a pure function of (seed, number of the sample)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from harness.cards import ModelCard
from harness.centernet.loss import TargetBatch
from harness.centernet.targets import MIN_OVERLAP, Targets, draw_targets
from harness.data.dataset import Annotation, Dataset
from harness.training.order import place_of
from harness.types import Float32

SCALES = (0.7, 1.3)
"""Range of the random zoom."""
MIN_VISIBLE = 0.3
"""Least share of a box that must lie within the crop; a smaller rest cannot be recognised and is ignored."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample: (3, size, size) float32 network input, and its targets."""

    image: Float32
    targets: Targets


class Samples(TorchDataset[Sample]):
    """Random crops of `size` pixels at the scale at which the card shows images to the network.

    Args:
        dataset: Images and annotations.
        card: Normalisation, classes, stride and network input size.
        size: Side of the crop in pixels of the network input, a multiple of 32.
        seed: Seed of all random choices, together with the number of the sample.
        overlap: Overlap of the drawn peaks, see `gaussian_radius`.
    """

    def __init__(self, dataset: Dataset, card: ModelCard, size: int, seed: int, overlap: float = MIN_OVERLAP) -> None:
        self.dataset, self.card, self.size, self.seed, self.overlap = dataset, card, size, seed, overlap
        self.channel_of = {id_: channel for channel, id_ in enumerate(card.category_ids)}
        self.annotations: dict[int, list[Annotation]] = defaultdict(list)
        for annotation in dataset.instances.annotations:
            if annotation.category_id in self.channel_of:
                self.annotations[annotation.image_id].append(annotation)

    def image_id(self, number: int) -> int:
        """Return the image of a sample: every image once an epoch, in another order each epoch."""
        return self.dataset.image_ids[place_of(number, len(self.dataset), self.seed)]

    def __getitem__(self, number: int) -> Sample:
        random = np.random.default_rng((self.seed, 1, number))
        image_id = self.image_id(number)
        image = self.dataset.read_image(image_id)
        height, width = image.shape[:2]
        forward = self._crop(random, width, height)
        source = self.card.input
        crop = cv2.warpAffine(image, forward, (self.size, self.size), flags=cv2.INTER_LINEAR)
        if source.channel_order == "RGB":
            crop = crop[:, :, ::-1]
        pixels = (crop * np.float32(source.scale) - np.array(source.mean, np.float32)) / np.array(
            source.std, np.float32
        )
        return Sample(np.ascontiguousarray(pixels.transpose(2, 0, 1)), self._targets(image_id, forward))

    def _crop(self, random: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
        """Draw the (2, 3) map from image pixels to pixels of the crop: zoom, place, and a mirror half of the time."""
        input_side = max(self.card.input.height, self.card.input.width)
        zoom = input_side / max(width, height) * random.uniform(*SCALES)
        half = self.size / 2 / zoom
        x, y = (random.uniform(min(half, side / 2), max(side - half, side / 2)) for side in (width, height))
        mirror = -1.0 if random.random() < 0.5 else 1.0
        return np.array(
            [[mirror * zoom, 0, self.size / 2 - mirror * zoom * x], [0, zoom, self.size / 2 - zoom * y]], np.float64
        )

    def _targets(self, image_id: int, forward: NDArray[np.float64]) -> Targets:
        found = self.annotations[image_id]
        boxes = np.array([a.bbox for a in found], np.float64).reshape(-1, 4)
        corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1).reshape(-1, 2)
        mapped = (corners @ forward[:, :2].T + forward[:, 2]).reshape(-1, 2, 2)
        placed = np.concatenate((mapped.min(axis=1), mapped.max(axis=1)), 1)
        inside = np.clip(placed, 0, self.size)
        visible = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / (placed[:, 2:] - placed[:, :2]).prod(axis=1)
        unclear = np.array([bool(a.iscrowd) for a in found], bool) | (visible < MIN_VISIBLE)
        classes = np.array([self.channel_of[a.category_id] for a in found], np.int64)
        side = self.size // self.card.decode.stride
        grid = placed / self.card.decode.stride
        return draw_targets(
            grid[~unclear], classes[~unclear], grid[unclear], (self.card.classes, side, side), self.overlap
        )


def collate(samples: Sequence[Sample]) -> tuple[Tensor, TargetBatch]:
    """Stack samples: images (N, 3, H, W), and their targets."""
    cells = samples[0].targets.weight.size
    index = np.concatenate([i * cells + sample.targets.index for i, sample in enumerate(samples)])
    targets = TargetBatch(
        hm=torch.from_numpy(np.stack([sample.targets.hm for sample in samples])),
        weight=torch.from_numpy(np.stack([sample.targets.weight for sample in samples])),
        index=torch.from_numpy(index),
        wh=torch.from_numpy(np.concatenate([sample.targets.wh for sample in samples])),
        reg=torch.from_numpy(np.concatenate([sample.targets.reg for sample in samples])),
    )
    return torch.from_numpy(np.stack([sample.image for sample in samples])), targets
