"""Speed of a training, from the times of iterations in its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # records alone: a check needs nothing of what makes them
    from harness.exchange.training_record import LoggedStep, TrainingLog

WARM_UP = 50
"""Iterations since the start that do not count for the speed, unless told otherwise: compilation, caches, clocks."""
PARTS = 20
"""Parts of the window, of whose speeds the median is taken, where a log prints the mean since the start alone."""
LEAST_WINDOW = 20
"""Iterations that a speed needs at least."""


@dataclass(frozen=True, slots=True)
class LoggedSpeed:
    """Speed of a training, by the times in its log.

    Attributes:
        fps: Images a second over all processes, the median of the parts.
        slowest, fastest: Of the parts.
        seconds: Of an iteration, median.
        data_seconds: That an iteration waited for its images, median; None where it is not logged.
        parts: Their number.
        first, last: Iterations of the window, by their number in the log.
    """

    fps: float
    slowest: float
    fastest: float
    seconds: float
    data_seconds: float | None
    parts: int
    first: int
    last: int


def measured_speed(log: TrainingLog, batch_size: int | None, warm_up: int) -> tuple[LoggedSpeed | None, list[str]]:
    """Measure the images a second after the warm-up; None with the reason where the log does not support it."""
    steps = [step for step in log.steps if step.seconds is not None and log.done(step) > log.started]
    said = "images a second: "
    if any(step.step_fps is not None for step in log.steps):
        alone = [f"{said}step_fps is of one iteration alone, without the wait for its images: one iteration is no fps"]
    else:
        alone = []
    if not steps:
        return None, [*alone, f"{said}no time of an iteration is logged"] if log.steps else alone
    if batch_size is None:
        return None, [*alone, f"{said}neither the log nor --batch-size says how many images an iteration has"]
    times, before = (_parts_of_mean if log.running_mean else _medians)(log, steps, warm_up)
    done = log.done(steps[-1])
    if not times or done - before < LEAST_WINDOW:
        return None, [*alone, f"{said}of {done} iterations, too few are left after a warm-up of {warm_up}"]
    if min(times) <= 0:
        return None, [*alone, f"{said}the times are 0, or not of one run: their mean since the start falls too fast"]
    waits = [step.data_seconds for step in steps if step.data_seconds is not None and log.done(step) > before]
    seconds = median(times)
    speed = LoggedSpeed(
        batch_size / seconds,
        batch_size / max(times),
        batch_size / min(times),
        seconds,
        median(waits) if waits else None,
        len(times),
        before + log.counted_from,
        steps[-1].iteration,
    )
    return speed, alone


def _medians(log: TrainingLog, steps: Sequence[LoggedStep], warm_up: int) -> tuple[list[float], int]:
    """Return the times of records, each of the iterations since the one before, and how many were done before."""
    counted = [step for step in steps if log.done(step) - log.period >= log.started + warm_up]
    times = [step.seconds for step in counted if step.seconds is not None]
    return times, log.done(counted[0]) - log.period if counted else 0


def _parts_of_mean(log: TrainingLog, steps: Sequence[LoggedStep], warm_up: int) -> tuple[list[float], int]:
    """Return times of an iteration in parts of the window, from the mean since the start, as `_medians` does.

    The sum of all times up to a record is its mean times its count. Between two records lies the difference; few parts
    keep the rounding of the mean small beside it.
    """
    borders = [step for step in steps if log.done(step) >= log.started + warm_up]
    parts = min(PARTS, len(borders) - 1)
    if parts < 1:
        return [], 0
    chosen = [borders[round(place * (len(borders) - 1) / parts)] for place in range(parts + 1)]
    counts = [log.done(step) - log.started for step in chosen]
    sums = [count * (step.seconds or 0) for count, step in zip(counts, chosen, strict=True)]
    times = [
        (after - before) / (many - few)
        for (before, after), (few, many) in zip(pairwise(sums), pairwise(counts), strict=True)
    ]
    return times, log.done(chosen[0])
