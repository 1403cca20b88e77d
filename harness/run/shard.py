"""Shards: parts of the images of a run, each of whole batches, that are run apart and merged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import HarnessError

MOST = 9999
"""Shards of a run."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts of a run.

    Attributes:
        index: From 1 on.
        of: Number of parts.
    """

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def is_last(self) -> bool:
        """Whether it has the last images."""
        return self.index == self.of

    def images(self, image_ids: Sequence[int], batch_sizes: Iterable[int]) -> tuple[int, ...]:
        """Return the images of this part, in order: neighbours, so many that every batch is one of the whole run.

        Args:
            image_ids: Of the whole run, in order.
            batch_sizes: At which they are run.

        Raises:
            HarnessError: There are more parts than such groups of batches.
        """
        sizes = sorted(set(batch_sizes))
        block = math.lcm(*sizes)
        blocks = math.ceil(len(image_ids) / block)
        if self.of > blocks:
            listed = ", ".join(map(str, sizes))
            raise HarnessError(
                f"{len(image_ids)} images in whole batches of {listed} make at most {blocks} parts of {block} images",
                field="--shard",
                remedy=f"share the run out among {blocks}, or give other --batch-sizes",
            )
        first, last = ((place * blocks // self.of) * block for place in (self.index - 1, self.index))
        return tuple(image_ids[first:last])


def parse_shard(text: str) -> Shard:
    """Read a part such as ``2/5``.

    Raises:
        HarnessError: It is none.
    """
    found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text)
    shard = Shard(0, 0) if found is None else Shard(int(found[1]), int(found[2]))
    if not 1 <= shard.index <= shard.of <= MOST:
        cause = f"'{text}' is no part of a run"
        raise HarnessError(cause, field="--shard", remedy="give number/parts, such as 2/5: from 1/5 to 5/5")
    return shard
