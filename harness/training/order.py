"""Order in which a training shows its images: a function of a seed and the number of the sample, so that it resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count

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


class GroupedSampleNumbers:
    """Batches of sample numbers whose images are all wide, or all not, so that little of a batch is padding.

    Samples are taken in their order, and a batch is given when it is full. The numbers of an iteration hang on nothing
    else: a resumed run continues at its iteration, and processes take equal shares of the same batches.

    Args:
        start: Iteration to begin at, from 0.
        stop: Iteration to end before.
        batch_size: Numbers of a batch over all processes.
        is_wide: Whether the image of a sample is wider than high.
        process: This one, from 0.
        processes: Their number, which divides `batch_size`.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        batch_size: int,
        is_wide: Callable[[int], bool],
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.start, self.stop, self.batch_size, self.is_wide = start, stop, batch_size, is_wide
        self.share = slice(process * batch_size // processes, (process + 1) * batch_size // processes)

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[bool, list[int]] = {True: [], False: []}
        iteration = 0
        for number in count():
            if iteration >= self.stop:
                return
            group = waiting[self.is_wide(number)]
            group.append(number)
            if len(group) == self.batch_size:
                if iteration >= self.start:
                    yield group[self.share]
                iteration += 1
                group.clear()
