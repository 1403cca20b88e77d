"""Interleaved timing of a new and an old model, for as long as it takes to tell which is slower."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.checks.slowdown import Slowdown, slowdown_of

BLOCKS = (30, 1000)
"""Least and most blocks of two pairs, within which `SECONDS` decides the limit."""
SECONDS = 180.0
"""Aimed at for the longest comparison of one batch size."""

Timed = Callable[[], float]
"""Runs a model once and returns the seconds."""


def time_alternately(new: Timed, old: Timed, allowed: float, seed: int = 0) -> Slowdown:
    """Time a new model against an old one until the interval of the ratio lies on one side of what is allowed.

    A block is new, old, old, new or the reverse, by lot: a drift of the clock cancels within it, whatever runs beside
    meets both alike, and two equal models give signs that are independent by the lot alone, whatever the noise is.

    Args:
        new: The model that is judged.
        old: The model that it is held to.
        allowed: Fraction by which the new one may take longer.
        seed: Of the lot.
    """
    first = [_block(new, old, turned) for turned in (False, True)]  # warms up: not counted
    limit = int(np.clip(SECONDS / sum(first[-1]), *BLOCKS))
    lot, seconds = np.random.default_rng(seed), list[tuple[float, float, float, float]]()
    found = None
    while found is None or (len(seconds) < limit and found.answer(allowed) == "open"):
        for _ in range(min(1 + len(seconds) // 20, limit - len(seconds))):  # a look costs more than a short model
            seconds.append(_block(new, old, bool(lot.integers(2))))
        found = slowdown_of(seconds, limit)
    return found


def _block(new: Timed, old: Timed, turned: bool) -> tuple[float, float, float, float]:
    if turned:
        old_1, new_1, new_2, old_2 = old(), new(), new(), old()
    else:
        new_1, old_1, old_2, new_2 = new(), old(), old(), new()
    return new_1, new_2, old_1, old_2
