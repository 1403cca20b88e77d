"""Random numbers that are the same on every machine and NumPy version."""

from __future__ import annotations

import numpy as np

from harness.types import UInt8


class PortableRandom:
    """Random numbers from the raw 64-bit words of PCG64, reduced by modulo.

    NumPy guarantees the bit stream of a seeded BitGenerator, but not the methods of Generator (NEP 19). Only the raw
    words are used here for that reason.

    Args:
        entropy: Non-negative integers that seed the stream; others give an independent stream.
    """

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def below(self, bound: int) -> int:
        """Draw an integer in 0..bound-1."""
        return int(self._bits.random_raw()) % bound

    def between(self, low: int, high: int) -> int:
        """Draw an integer in low..high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of a hundred draws."""
        return self.below(100) < percent

    def weighted(self, weights: tuple[int, ...]) -> int:
        """Draw an index of `weights` with a probability proportional to its weight."""
        rest = self.below(sum(weights))
        for index, weight in enumerate(weights):
            rest -= weight
            if rest < 0:
                return index
        raise AssertionError("the sum of the weights bounds the draw")

    def octets(self, count: int) -> UInt8:
        """Draw (count,) bytes, eight from each word, the lowest first."""
        words = np.asarray(self._bits.random_raw(-(-count // 8)))
        # The byte order is stated, so that a big-endian machine draws the same.
        return words.astype("<u8").view(np.uint8)[:count]
