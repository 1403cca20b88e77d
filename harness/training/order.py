"""Order in which a training shows its images: a function of a seed and the number of the sample, so that it resumes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def place_of(number: int, images: int, seed: int) -> int:
    """Return the place of a sample's image among `images`: each once an epoch, in another order each epoch.

    Args:
        number: Number of the sample since the start of the training, from 0.
        images: Images of an epoch.
        seed: Source of the order.
    """
    epoch, place = divmod(number, images)
    return int(_order(seed, epoch, images)[place])


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def _order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(images)


class SampleNumbers:
    """Batches of sample numbers from iteration `start` to `stop`: a resumed run continues at its iteration."""

    def __init__(self, start: int, stop: int, batch_size: int) -> None:
        self.start, self.stop, self.batch_size = start, stop, batch_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.start, self.stop):
            yield list(range(iteration * self.batch_size, (iteration + 1) * self.batch_size))
