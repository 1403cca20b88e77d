"""Judgement of a slowdown: the median of paired ratios, by an interval that holds however often one looks at it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, undecided
from harness.report.records import AGAINST

ALPHA = 0.01
"""Chance that an end of the interval errs at any time of a run: a false alarm where the slowdown is just the limit."""
LEVEL = round(1 / ALPHA)
"""What a likelihood ratio reaches with that chance; whole, so that ratios of large whole numbers stay exact."""
CONFIDENCE = 1 - 2 * ALPHA

Answer = Literal["slower", "kept", "open"]


@cache
def least_count(values: int) -> int:
    """Return the number of values above a limit that shows, at level `ALPHA`, that their median lies above it.

    Let K of n values lie above the median: K is then binomial with p = 1/2 at most. The test statistic is the
    likelihood ratio of p against 1/2, averaged over p in (1/2, 1]; it is a supermartingale that starts at 1, so it
    reaches 1 / `ALPHA` at any n with probability `ALPHA` at most (Ville). No number of looks inflates that. It is

        sum over j <= K of C(n + 1, j)  /  ((n + 1) C(n, K)).

    Source: Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
    identification", Bernoulli 28 (2022); Robbins, "Statistical methods related to the law of the iterated logarithm",
    Annals of Mathematical Statistics 41 (1970).

    Args:
        values: Number of values, n.

    Returns:
        The number; n + 1 where even all of them would show nothing.
    """
    below, ways, ways_of_more = 0, 1, 1  # C(n, k) and C(n + 1, k), exact
    for k in range(values + 1):
        below += ways_of_more
        if 2 * k > values and below >= LEVEL * (values + 1) * ways:
            return k
        ways, ways_of_more = ways * (values - k) // (k + 1), ways_of_more * (values + 1 - k) // (k + 1)
    return values + 1


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Time of a new model divided by that of an old one.

    Attributes:
        ratio: Median over blocks of two pairs.
        low: Lower end of its interval, which holds at every length of the run at once.
        high: Upper end.
        pairs: Number of pairs.
        ms: Median milliseconds of the new model.
        old_ms: Median milliseconds of the old one.
        limit: Number of pairs at which the run would have ended in any case.
    """

    ratio: float
    low: float
    high: float
    pairs: int
    ms: float
    old_ms: float
    limit: int

    def __str__(self) -> str:
        interval = f"{CONFIDENCE:.0%} interval {self.low:.3f} to {self.high:.3f}, {self.pairs} pairs"
        return f"{self.ms:.3f} ms against {self.old_ms:.3f} ms: ratio {self.ratio:.3f} ({interval})"

    def answer(self, allowed: float) -> Answer:
        """Tell whether the new model is slower than by `allowed`, a fraction of the old one's time."""
        if self.low > 1 + allowed:
            return "slower"
        return "kept" if self.high < 1 + allowed else "open"


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval of the median of independent values; infinite where there are too few of them.

    Both ends are order statistics, so no shape of the distribution is assumed.
    """
    ordered, count = sorted(values), least_count(len(values))
    if count > len(ordered):
        return -math.inf, math.inf
    return ordered[len(ordered) - count], ordered[count - 1]


def slowdown_of(seconds: Sequence[tuple[float, float, float, float]], limit: int) -> Slowdown:
    """Condense the times of blocks.

    Args:
        seconds: Of each block, the two times of the new model and the two of the old one.
        limit: Largest number of blocks.
    """
    times = np.array(seconds)
    logs = np.log(times)
    ratios = (logs[:, :2].sum(axis=1) - logs[:, 2:].sum(axis=1)) / 2
    low, high = interval_of_median(ratios.tolist())
    ms, old_ms = (float(1000 * np.median(part)) for part in (times[:, :2], times[:, 2:]))
    ratio = math.exp(float(np.median(ratios)))
    return Slowdown(ratio, math.exp(low), math.exp(high), 2 * len(times), ms, old_ms, 2 * limit)


def judge_slowdown(slowdown: Slowdown, allowed: float, old: str, batch_size: int) -> StageResult:
    """Fail where the new model is slower than allowed; leave open what the pairs were too few to tell.

    Args:
        slowdown: As measured.
        allowed: Fraction by which the new model may take longer.
        old: Name of what it was compared with.
        batch_size: Of both.
    """
    answer, said = slowdown.answer(allowed), f"against {old}: {slowdown}"
    limit = 1 + allowed
    if answer == "open":
        comparison = Comparison(f"time {said}", slowdown.ratio, limit, slowdown.pairs)
        reason = (
            f"{said}, allowed {limit:.3f}: the spread does not allow to tell, within {slowdown.limit} pairs; "
            "measure on a quieter machine, or allow more (--max-slowdown)"
        )
        return undecided(AGAINST, batch_size, comparison, reason)
    problem = f"slower than by the {100 * allowed:.4g}% that are allowed" if answer == "slower" else None
    result = judge(AGAINST, batch_size, [Comparison(f"time {said}", slowdown.ratio, limit, slowdown.pairs, problem)])
    detail = result.stage.detail or f"time {said}"
    return replace(result, stage=result.stage.model_copy(update={"detail": detail}))
