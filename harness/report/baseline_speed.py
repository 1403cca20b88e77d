"""The gate of a measured speed: times divided by those of the yardstick, then and now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.records import HOST_ARRAYS, Perf, Run

SLOWER_ALLOWED = 0.1
"""Fraction by which a measured time may exceed the baseline's where the user says nothing."""
BETWEEN_RUNS = 0.03
"""Of a ratio to the yardstick between two runs of one program: where code and data come to lie in memory differs from
process to process, which no sample within a run shows. Source: Mytkowicz, Diwan, Hauswirth and Sweeney, "Producing
wrong data without doing anything obviously wrong!", ASPLOS 2009; the size is this project's choice."""
FEWEST = 10
"""Pairs of times of which an interval is made."""
RUN = 5
"""Neighbouring pairs that are drawn together, as neighbours resemble each other."""
RESAMPLES = 2000
ENDS = (1, 99)
"""Percentiles of the resampled ratios: at most 1 in 100 false alarms."""


@dataclass(frozen=True, slots=True)
class SpeedGate:
    """Speeds of a run beside those of a baseline.

    Attributes:
        slower: Speeds that are slower than allowed.
        open: Speeds that cannot be compared, or whose spread does not allow to tell.
        kept: Speeds that are not slower than allowed.
    """

    slower: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def compare_speeds(old: Run, new: Run, allowed: float) -> SpeedGate:
    """Compare the speeds that both runs of a device have samples of, and say of which only one has.

    Args:
        old: Of the baseline.
        new: Of this run.
        allowed: Fraction by which a time may exceed the baseline's.
    """
    found: dict[str, list[str]] = {"slower": [], "open": [], "kept": []}
    for answer, text in _answers(old, new, allowed):
        found[answer].append(f"{old.device} {old.precision}: {text}")
    return SpeedGate(*(tuple(found[name]) for name in ("slower", "open", "kept")))


def _answers(old: Run, new: Run, allowed: float) -> Iterator[tuple[str, str]]:
    before = {perf.batch_size: perf for perf in old.perf if _of_the_device(perf)}
    for now in new.perf:
        then = before.get(now.batch_size)
        if not now.batch_ms or then is None:
            continue
        what = f"speed at batch size {now.batch_size}"
        reason = _incomparable(then, now)
        if reason is not None:
            yield "open", f"{what} is not compared: {reason}"
            continue
        ratio, low, high = _ratio(then, now)
        shown = (
            f"{what}: time beside the yardstick {ratio:.3f} x the baseline's (98% interval {low:.3f} to {high:.3f}, "
            f"{len(now.batch_ms)} batches), allowed {1 + allowed:.3f}"
        )
        if low > 1 + allowed:
            yield "slower", shown
        elif high < 1 + allowed:
            yield "kept", shown
        else:
            yield "open", f"{shown}: the spread does not allow to tell"


def _of_the_device(perf: Perf) -> bool:
    """Tell a speed with samples, or of a document that is older than they are, from one end to end or estimated."""
    return bool(perf.batch_ms) or perf.interval.startswith(HOST_ARRAYS)


def _incomparable(then: Perf, now: Perf) -> str | None:
    for whose, perf in (("the baseline", then), ("this run", now)):
        if not perf.batch_ms:
            return f"{whose} has no samples of it"
        if not perf.yardstick_ms:
            return f"{whose} has no yardstick ({perf.yardstick or 'its document is older'})"
        if len(perf.batch_ms) < FEWEST or len(perf.batch_ms) != len(perf.yardstick_ms):
            return f"{whose} has too few samples of it, or not a time of the yardstick for each"
    return None if then.yardstick == now.yardstick else f"other yardsticks: '{then.yardstick}', now '{now.yardstick}'"


def _ratio(then: Perf, now: Perf) -> tuple[float, float, float]:
    """Time beside the yardstick, now by then: quotient of medians, and its interval with what differs between runs."""
    random = np.random.default_rng(0)
    logs = [np.log(perf.batch_ms) - np.log(perf.yardstick_ms) for perf in (then, now)]
    drawn = [np.median(_resampled(values, random), axis=1) for values in logs]
    low, high = np.percentile(drawn[1] - drawn[0], ENDS)
    middle, beyond = float(np.median(logs[1]) - np.median(logs[0])), math.log1p(BETWEEN_RUNS)
    return math.exp(middle), math.exp(low - beyond), math.exp(high + beyond)


def _resampled(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw series of the same length from runs of neighbours, the last of which goes on at the beginning."""
    runs = math.ceil(len(values) / RUN)
    starts = random.integers(len(values), size=(RESAMPLES, runs, 1))
    places = (starts + np.arange(RUN)).reshape(RESAMPLES, -1)[:, : len(values)]
    return np.asarray(values[places % len(values)])
