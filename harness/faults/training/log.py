"""Known mistakes in reading the figures of a training from its log, and which of them explains a figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError
from harness.faults.training.fault import PORT

if TYPE_CHECKING:
    from harness.checks.training.log import LogScore
    from harness.exchange.training_record import TrainingLog

Figure = Literal["AP", "images/s"]
Place = tuple[str, float]
"""A place in a log, in words, and the figure that stands there."""
ALLOWED = {"AP": 0.0, "images/s": 0.01}
"""By how much of itself a right figure may differ beside the rounding of its text: a speed by another window."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogMistake:
    """One known mistake.

    Attributes:
        id: Short name, kept for ever.
        figure: That is read wrongly.
        description: The mistake as a sentence without a full stop.
        seen_in: Source of the mistake.
        read: From a log and what it supports to what somebody who makes the mistake may read.
    """

    id: str
    figure: Figure
    description: str
    seen_in: str
    read: Callable[[TrainingLog, LogScore], Iterable[Place]]


@dataclass(frozen=True, slots=True)
class ReadFigure:
    """A figure that somebody has read from a log, held to the log.

    Attributes:
        figure: Which.
        text: As it was given.
        right: What the log supports; None where it supports none.
        is_right: Whether it is that.
        explained: The mistakes that give it, each with the place in the log.
    """

    figure: Figure
    text: str
    right: float | None
    is_right: bool
    explained: tuple[tuple[LogMistake, str], ...]


def _other_columns(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    for found in log.accuracies[-1:]:
        yield from ((f"{name}, line {found.line}", value) for name, value in found.figures.items() if name != "AP")


def _earlier(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    yield from ((f"AP, line {found.line}", found.figures["AP"]) for found in log.accuracies[:-1])


def _one_iteration(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    for step in log.steps:
        if step.step_fps is not None:
            yield f"step_fps, line {step.line}", step.step_fps
        elif step.seconds and score.batch_size is not None and not log.running_mean:
            yield f"batch size over time, line {step.line}", score.batch_size / step.seconds


def _columns_of_steps(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    for step in log.steps[-1:]:  # as the scripts do; in all lines, some column has any number
        named = {**step.losses, "time": step.seconds, "data_time": step.data_seconds, "lr": step.learning_rate}
        named["iter"] = float(step.iteration)
        yield from ((f"{name}, line {step.line}", value) for name, value in named.items() if value is not None)


def _iterations(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    if score.speed is not None:
        yield "iterations a second", 1 / score.speed.seconds


def _one_process(log: TrainingLog, score: LogScore) -> Iterator[Place]:
    if score.speed is not None and (log.processes or 1) > 1:
        yield f"of one of {log.processes} processes", score.speed.fps / (log.processes or 1)


LOG_MISTAKES: tuple[LogMistake, ...] = (
    LogMistake(
        id="ap_of_another_column",
        figure="AP",
        description="AP is read from another column of the table of the evaluation",
        seen_in=f"{PORT}: test/*.sh take the second word of the third line after a heading",
        read=_other_columns,
    ),
    LogMistake(
        id="ap_of_another_evaluation",
        figure="AP",
        description="AP is that of an evaluation before the last, and not of the weights that were kept",
        seen_in="a log that has an evaluation after every epoch",
        read=_earlier,
    ),
    LogMistake(
        id="fps_of_one_iteration",
        figure="images/s",
        description="the speed is that of one iteration, and not of a window after warm-up",
        seen_in=f"{PORT}: test/*.sh take step_fps of the last line",
        read=_one_iteration,
    ),
    LogMistake(
        id="fps_of_another_column",
        figure="images/s",
        description="the speed is read from another column of the log, which moves with colours and the time left",
        seen_in=f"{PORT}: test/*.sh take word 36 of a coloured line",
        read=_columns_of_steps,
    ),
    LogMistake(
        id="iterations_taken_for_images",
        figure="images/s",
        description="the speed counts iterations, and not their images",
        seen_in="logs that print the time of an iteration alone",
        read=_iterations,
    ),
    LogMistake(
        id="fps_of_one_process",
        figure="images/s",
        description="the speed is that of one process, and not of all that train together",
        seen_in="logs in which each process prints its own speed",
        read=_one_process,
    ),
)


def explain_figure(log: TrainingLog, score: LogScore, figure: Figure, text: str) -> ReadFigure:
    """Hold a figure that somebody has read from a log to the log, and name the mistakes that would give it.

    Args:
        log: The log.
        score: What it supports.
        figure: Which.
        text: As it was given; AP as a fraction or in percent. Its last digit says how far it is rounded.

    Raises:
        HarnessError: It is no such figure.
    """
    value, rounding = _parsed(figure, text)
    right = _right(score, figure)
    is_right = right is not None and abs(value - right) <= rounding + ALLOWED[figure] * right
    if is_right:
        return ReadFigure(figure, text, right, True, ())
    explained = []
    for mistake in LOG_MISTAKES:
        places = mistake.read(log, score) if mistake.figure == figure else ()
        near = [place for place, found in places if abs(found - value) <= rounding * (1 + 1e-9)]
        if near:
            explained.append((mistake, near[-1] if len(near) == 1 else f"{near[-1]} and {len(near) - 1} others"))
    return ReadFigure(figure, text, right, False, tuple(explained))


def _right(score: LogScore, figure: Figure) -> float | None:
    if figure == "AP":
        return None if score.accuracy is None else score.accuracy.figures["AP"]
    return None if score.speed is None else score.speed.fps


def _parsed(figure: Figure, text: str) -> tuple[float, float]:
    """Return a figure, and half a unit of its last digit."""
    try:
        number = Decimal(text.strip())
        exponent = number.as_tuple().exponent
        value, unit = float(number), 10.0 ** int(exponent)
    except (InvalidOperation, ValueError, OverflowError):
        value, unit = math.nan, 0.0
    percent = 100.0 if figure == "AP" and value > 1 else 1.0
    if not 0 <= value <= (100 if figure == "AP" else 1e9):
        what = "from 0 to 1, or to 100 in percent" if figure == "AP" else "from 0"
        raise HarnessError(f"'{text[:40]}' is no {figure}", field=figure, remedy=f"give a number {what}")
    return value / percent, unit / 2 / percent
