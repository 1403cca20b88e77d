"""Golden heads of the images of a run, each computed once, or taken from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import AnyCard
from harness.data.dataset import Dataset
from harness.run.family import family_of
from harness.run.reference import Reference
from harness.run.store import Shelf
from harness.types import Heads, Placement

Images = NDArray[np.generic]


class Golden:
    """Golden heads, a second opinion on them, and by how much the heads of a right port may differ.

    Args:
        card: The contract of the model.
        reference: Computes them.
        dataset: Where the images are.
        sample_ids: Images whose heads are compared one by one.
        shelf: The store's place of what the reference gives; None where nothing is stored.
    """

    def __init__(
        self, card: AnyCard, reference: Reference, dataset: Dataset, sample_ids: Sequence[int], shelf: Shelf | None
    ) -> None:
        self._card, self._reference, self._dataset, self._shelf = card, reference, dataset, shelf
        self._sample_ids = sample_ids

    @cached_property
    def _inputs(self) -> list[Images]:
        return [self._preprocess(image_id)[0] for image_id in self._sample_ids]

    @cached_property
    def heads(self) -> list[Heads]:
        """The golden heads of the sample images."""
        return self._reference.each(self._stored("golden heads", self._reference.heads), self._inputs)

    @cached_property
    def second_opinion(self) -> list[Heads]:
        """Heads of the sample images, computed in another way than the reference does."""
        return self._reference.each(self._stored("second opinion", self._reference.second_opinion), self._inputs)

    @cached_property
    def allowed(self) -> tuple[dict[str, float], ...]:
        """Largest absolute difference of each head, by sample image."""
        samples = zip(self._inputs, self.heads, self.second_opinion, strict=True)
        return tuple(self._allowed("allowed of samples", *sample) for sample in samples)

    def of_image(self, image_id: int) -> tuple[Heads, Placement, dict[str, float]]:
        """Golden heads of any image, where it lies in the network's input, and by how much heads of it may differ."""
        images, placement = self._preprocess(image_id)
        heads = self._stored("golden heads", self._reference.heads)(images)
        return heads, placement, self._allowed("allowed", images, heads)

    def _preprocess(self, image_id: int) -> tuple[Images, Placement]:
        array, placement = family_of(self._card).preprocess(self._card, self._dataset.read_image(image_id))
        return array[None], placement

    def _allowed(self, what: str, images: Images, golden: Heads, exact: Heads | None = None) -> dict[str, float]:
        named = f"{what} at {self._reference.precision}"
        run = self._stored(named, lambda given: self._reference.allowed(given, golden, exact))
        return {head: float(value) for head, value in run(images).items()}

    def _stored(self, what: str, run: Callable[[Images], Mapping[str, Any]]) -> Callable[[Images], Mapping[str, Any]]:
        """A function of the reference, with its results stored."""
        return run if self._shelf is None else self._shelf.remembered(what, run)
