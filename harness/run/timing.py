"""Which of two is faster, on a machine where others work too: interleaved pairs and an interval, not two means."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long as the other the first one takes.

    Attributes:
        median: Of the pairs.
        low: Lower end of the 95 % interval of the median.
        high: Its upper end.
        pairs: Number of pairs.
        ms: Median milliseconds of the first.
        other_ms: Median milliseconds of the second.
    """

    median: float
    low: float
    high: float
    pairs: int
    ms: float
    other_ms: float

    def __str__(self) -> str:
        interval = f"95 % interval {self.low:.3f} to {self.high:.3f}, {self.pairs} pairs"
        return f"{self.ms:.3f} ms against {self.other_ms:.3f} ms: ratio {self.median:.3f} ({interval})"


def time_ratio(first: Callable[[], object], second: Callable[[], object], pairs: int = 30, repeat: int = 1) -> Ratio:
    """Time `first` against `second` in interleaved pairs, the order within a pair alternating.

    Neighbouring times share the machine's mood, so the ratio within a pair hardly depends on it. The interval is a
    bootstrap of the median over the pairs.

    Args:
        first: What is judged.
        second: What it is judged by.
        pairs: At least 20, after one that only warms up.
        repeat: Calls in each timing.
    """

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        return (time.perf_counter() - start) / repeat

    timed(first), timed(second)
    times = np.empty((pairs, 2))
    for i in range(pairs):
        for j in (0, 1) if i % 2 else (1, 0):
            times[i, j] = timed((first, second)[j])
    ratios = times[:, 0] / times[:, 1]
    samples = np.random.default_rng(0).choice(ratios, (RESAMPLES, pairs))
    low, high = np.percentile(np.median(samples, axis=1), (2.5, 97.5))
    ms, other_ms = 1000 * np.median(times, axis=0)
    return Ratio(float(np.median(ratios)), float(low), float(high), pairs, float(ms), float(other_ms))
