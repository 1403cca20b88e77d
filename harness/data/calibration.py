"""Calibration images, from which post-training quantisation takes its ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from harness.cache import content_key
from harness.cards import ModelCard
from harness.centernet.preprocess import preprocess
from harness.data.dataset import IMAGE_BYTES, Dataset
from harness.errors import HarnessError
from harness.files import read_regular

DEFAULT_IMAGES = 200
"""Number of images that the published recipes take."""


@dataclass(frozen=True)
class Calibration:
    """Images spread over a data set and preprocessed by our own code, never by a vendor's.

    Attributes:
        card: The contract of the model.
        dataset: The whole data set, whatever part of it is evaluated.
        count: Number of images; fewer if the data set has no more.
    """

    card: ModelCard
    dataset: Dataset
    count: int = DEFAULT_IMAGES

    @cached_property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the images, evenly spread over the data set.

        Raises:
            HarnessError: The data set has no images.
        """
        ids = self.dataset.image_ids
        if not ids:
            raise HarnessError(
                "no image to calibrate with", file=self.dataset.folder, remedy="give --coco a folder that has images"
            )
        places = np.linspace(0, len(ids) - 1, min(self.count, len(ids))).round().astype(int)
        return tuple(ids[place] for place in places)

    def key(self) -> str:
        """Return a cache key of the network inputs: the image files, the card's input and the first input's bytes."""
        files = [
            sha256(read_regular(self.dataset.path(image_id), None, IMAGE_BYTES)).hexdigest()
            for image_id in self.image_ids
        ]
        made = sha256(next(self.inputs(1)).tobytes()).hexdigest()
        return content_key({"files": files, "input": json.loads(self.card.input.model_dump_json()), "made": made})

    def inputs(self, batch_size: int) -> Iterator[NDArray[np.generic]]:
        """Yield network inputs of `batch_size` images each; the last is filled up from the first images.

        Raises:
            HarnessError: An image cannot be read.
        """
        ids = self.image_ids
        for start in range(0, len(ids), batch_size):
            chunk = [ids[place % len(ids)] for place in range(start, start + batch_size)]
            yield np.stack([preprocess(self.card, self.dataset.read_image(image_id))[0] for image_id in chunk])
