"""Remarks on a series of times: warm-up that was not over, drift from first to last, a clock that changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 9
"""Times of which anything is said: three in each third."""
WARM_UP = 1.2
"""Of the median, which the first time exceeds, and every later one as well: of n equal times the first is the largest
in one of n runs, and hardly ever by a fifth where the clock is steady."""
DRIFT = 1.05
"""Ratio of the medians of the last and the first third; what a gate of 5 % would take for a slowdown."""
SURE = 4.0
"""Standard deviations of a rank sum, two-sided 1 in 16,000: a quiet run says nothing."""
STEP = 1.1
"""Ratio of two levels. Clocks of processors and chips step by more where they are throttled or boosted."""
SHARE = 0.25
"""Of the times that each of two levels has at least: fewer are disturbances."""
FEWEST_OF_LEVELS = 20
"""Times of which two levels are told: of ten, chance alone leaves wide gaps."""
APART = 2.0
"""Of the gap between two levels, by the width of the wider one (10th to 90th percentile)."""
SWITCHES = 3
"""Most changes between two levels that are told as steps in time."""


def remarks_on(batch_ms: Sequence[float]) -> tuple[str, ...]:
    """Describe what keeps a series of times from being one figure; nothing of a quiet one.

    Args:
        batch_ms: In the order in which they were taken.
    """
    times = np.asarray(batch_ms, np.float64)
    if len(times) < FEWEST:
        return ()
    found = [_warm_up(times)]
    change = _two_levels(times)
    found += [change or _drift(times)]
    return tuple(remark for remark in found if remark is not None)


def _warm_up(times: NDArray[np.float64]) -> str | None:
    first, median = times[0], float(np.median(times[1:]))
    if first <= times[1:].max() or first <= WARM_UP * median:
        return None
    return f"warm-up: the first batch took {first / median:.2f} x the median"


def _drift(times: NDArray[np.float64]) -> str | None:
    third = len(times) // 3
    first, last = times[:third], times[-third:]
    ratio = float(np.median(last) / np.median(first))
    # The rank sum of Wilcoxon, Mann and Whitney; its largest value of nine times is 2, so that few times say nothing.
    above = float((last[:, None] > first).sum()) + 0.5 * float((last[:, None] == first).sum())
    deviation = abs(above - third * third / 2) / math.sqrt(third * third * (2 * third + 1) / 12)
    if deviation < SURE or 1 / DRIFT < ratio < DRIFT:
        return None
    return f"drift: the last third of the batches took {ratio:.2f} x the first third"


def _two_levels(times: NDArray[np.float64]) -> str | None:
    """Find two levels with a gap between them that is wider than either."""
    if len(times) < FEWEST_OF_LEVELS:
        return None
    ordered = np.sort(times)
    least = math.ceil(SHARE * len(times))
    places = range(least, len(times) - least + 1)
    place = max(places, key=lambda i: ordered[i] - ordered[i - 1])
    low, high = ordered[:place], ordered[place:]
    gap, ratio = ordered[place] - ordered[place - 1], float(np.median(high) / np.median(low))
    widths = [np.subtract(*np.percentile(part, (90, 10))) for part in (low, high)]
    if ratio < STEP or gap <= APART * max(widths):
        return None
    is_high = times > low[-1]
    switches = np.flatnonzero(np.diff(is_high.astype(int))) + 1
    levels = f"{np.median(low):.4g} and {np.median(high):.4g} ms"
    if len(switches) > SWITCHES:
        return f"two speeds: batches take {levels} by turns ({len(switches)} changes)"
    return f"the clock changed: batches take {levels}, with a change at batch {', '.join(map(str, switches))}"
