"""Judgement of a training log: the figures that it supports, and what it cannot support."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from harness.checks.training.speed import WARM_UP, LoggedSpeed, measured_speed
from harness.errors import HarnessError
from harness.training.schedule import learning_rate, scaled_to

if TYPE_CHECKING:  # records alone: a check needs nothing of what makes them
    from harness.cards import RecipeCard, Solver
    from harness.exchange.training_record import LoggedAccuracy, LoggedStep, PortSummary, TrainingLog

DIGITS = 6e-5
"""Relative error of a rate that is printed with five digits."""
DECIMALS = 5e-7
"""Error of a rate that is printed with six decimals, as older versions do."""
ALLOWED_LENGTH = 0.01
"""By how much of itself the number of images of a training may differ from the recipe's."""
ALLOWED_QUOTIENT = 0.01
"""By how much of itself a figure may differ from the quotient that it is."""


@dataclass(frozen=True, slots=True)
class LogScore:
    """Figures of a training log.

    Attributes:
        batch_size: Images of an iteration that the figures are of; None where nobody says.
        accuracy: The last evaluation; None where there is none.
        last: The last iteration that was logged; None where there is none.
        speed: None where the log does not support one.
        unsupported: What the log cannot support, each with its reason.
    """

    batch_size: int | None
    accuracy: LoggedAccuracy | None
    last: LoggedStep | None
    speed: LoggedSpeed | None
    unsupported: tuple[str, ...]


def score_log(
    log: TrainingLog, recipe: RecipeCard, *, batch_size: int | None = None, warm_up: int = WARM_UP
) -> LogScore:
    """Judge a training log by the recipe that it claims to follow.

    Args:
        log: The log.
        recipe: Solver, images of an epoch, and published AP.
        batch_size: Images of an iteration over all processes, where the log does not say; it must not contradict it.
        warm_up: Iterations since the start that do not count for the speed.

    Raises:
        HarnessError: The log says another batch size, or one to which no schedule can be scaled.
    """
    batch = log.batch_size or batch_size
    if batch_size not in (None, batch):
        raise HarnessError(
            f"{batch_size} images, and the log says {batch}",
            file=log.file,
            field="--batch-size",
            remedy="leave the option out",
        )
    try:
        scaled = None if batch is None else scaled_to(recipe.solver, batch)
    except HarnessError as error:
        raise HarnessError(error.cause, file=log.file, field="batch size", remedy=error.remedy) from error
    if log.summary is not None:
        return LogScore(batch, None, None, None, tuple(_limits_of_summary(log, log.summary)))
    speed, no_speed = measured_speed(log, batch, warm_up)
    unsupported = [
        *_limits_of_accuracy(log),
        *_limits_of_length(log, recipe, scaled),
        *_limits_of_rate(log, recipe.solver, scaled),
        *no_speed,
        *_limits_of_losses(log),
    ]
    accuracy = log.accuracies[-1] if log.accuracies else None
    return LogScore(batch, accuracy, log.steps[-1] if log.steps else None, speed, tuple(unsupported))


def _limits_of_accuracy(log: TrainingLog) -> list[str]:
    """Say where an evaluation, or the training before it, is missing."""
    if not log.accuracies:
        return ["AP: the log has no evaluation"]
    if not log.steps:
        return ["AP: no training is in the log, and it does not say which weights were evaluated"]
    return []


def _limits_of_length(log: TrainingLog, recipe: RecipeCard, scaled: Solver | None) -> list[str]:
    """Say what the number of iterations does not support."""
    if not log.steps:
        return []
    solver, logged = recipe.solver, log.done(log.steps[-1])
    found = []
    iterations = max(log.planned or 0, logged)
    if log.planned is not None and logged + log.period < log.planned:
        found.append(f"the end: the log ends after {logged} iterations of {log.planned}")
        iterations = logged
    if scaled is None:
        return [*found, "the schedule: neither the log nor --batch-size says how many images an iteration has"]
    images, whole = iterations * scaled.batch_size, solver.iterations * solver.batch_size
    if abs(images / whole - 1) <= ALLOWED_LENGTH:
        return found
    epochs, expected = images / recipe.data.images, whole / recipe.data.images
    text = (
        f"batches of {scaled.batch_size} x {iterations} iterations are {epochs:.3g} epochs; {recipe.name} is "
        f"{solver.batch_size} x {solver.iterations}, {expected:.3g} epochs"
    )
    if images < whole:
        within = f", all of them within its warm-up of {scaled.warmup_iterations}"
        within = within if iterations <= scaled.warmup_iterations else ""
        return [*found, f"AP: {iterations} iterations have no AP of the recipe: {text}{within}"]
    published = "" if recipe.published is None else f" with the published {recipe.published.ap:g}"
    return [*found, f"AP: it is not comparable{published}: {text}"]


def _limits_of_rate(log: TrainingLog, solver: Solver, scaled: Solver | None) -> list[str]:
    """Say where the logged rates are not those of the schedule, and which schedule they are of if it is a known one."""
    logged = [(log.done(step) - 1, step.learning_rate) for step in log.steps if step.learning_rate is not None]
    if scaled is None or not logged:
        return ["lr: no learning rate is logged"] if log.steps and not logged else []

    def differing(expected: Callable[[int], float]) -> list[tuple[int, float]]:
        """List the records that are not of a schedule."""
        return [(i, rate) for i, rate in logged if abs(rate - expected(i)) > DIGITS * expected(i) + DECIMALS]

    off = differing(lambda i: learning_rate(scaled, i))
    if not off:
        return []
    iteration, rate = off[0]
    text = (
        f"lr: it is not the schedule's in {len(off)} of {len(logged)} records, first {rate:g} at "
        f"iteration {iteration + log.counted_from}, where batches of {scaled.batch_size} have "
        f"{learning_rate(scaled, iteration):.5g}"
    )
    ratio = _ratio(logged, lambda i: learning_rate(solver, i))
    named = [
        ("the schedule is counted from 1", lambda i: learning_rate(scaled, i + 1)),
        (_of_another_batch(ratio, solver, scaled.batch_size), lambda i: ratio * learning_rate(solver, i)),
    ]
    whole = _ratio(logged, lambda i: learning_rate(scaled, i))
    named.append((f"it is {whole:.4g} times the schedule's throughout", lambda i: whole * learning_rate(scaled, i)))
    name = next((name for name, expected in named if not differing(expected)), None)
    return [text if name is None else f"{text}: {name}"]


def _ratio(logged: Sequence[tuple[int, float]], expected: Callable[[int], float]) -> float:
    """Return the median ratio of logged rates to those of a schedule."""
    return median(rate / expected(iteration) for iteration, rate in logged)


def _of_another_batch(ratio: float, solver: Solver, batch_size: int) -> str:
    """Name the mistake of rates that are `ratio` times those of the unscaled schedule."""
    if math.isclose(ratio, 1, rel_tol=0.01):
        return f"it is that of batches of {solver.batch_size}, not scaled to {batch_size}"
    if math.isclose(ratio, batch_size / solver.batch_size, rel_tol=0.01):
        return f"it is scaled to batches of {batch_size}, and the warm-up and the steps are not"
    other = ratio * solver.batch_size
    return f"it is that of batches of {other:.4g}, with the warm-up and the steps of {solver.batch_size}"


def _limits_of_losses(log: TrainingLog) -> list[str]:
    """Say what the logged losses do not support."""
    found = []
    bad = [
        (step.iteration, name) for step in log.steps for name, value in step.losses.items() if not math.isfinite(value)
    ]
    if bad:
        found.append(f"losses: {bad[0][1]} is not finite at iteration {bad[0][0]}: the training has diverged")
    if log.ranks_differ:
        found.append(f"losses: each of {log.ranks} processes logs its own, and none the losses of the whole batch")
    elif log.ranks == 1 and (log.processes or 1) > 1 and any(step.step_fps is not None for step in log.steps):
        found.append(
            f"losses: of one rank of {log.processes}: a port that prints step_fps does not average them over the ranks"
        )
    return found


def _limits_of_summary(log: TrainingLog, summary: PortSummary) -> list[str]:
    """Say what a summary of the Ascend port's scripts does not support: its figures are columns of a log."""
    found = ["iterations and lr: they are not in a summary: give the log that it was made from"]

    def text(key: str) -> str:
        return summary.entries.get(key, "")[:40]

    if "TrainAccuracy" in summary.entries:
        if summary.accuracy is None:
            found.append(f"AP: TrainAccuracy '{text('TrainAccuracy')}' is none: the column holds something else")
        elif summary.accuracy == 0:
            found.append("AP: TrainAccuracy 0.0 is a constant of the scripts that train")
    if "ActualFPS" in summary.entries:
        if summary.fps is None:
            found.append(f"images a second: ActualFPS '{text('ActualFPS')}' is none: the column holds something else")
        else:
            found.append(f"images a second: ActualFPS {summary.fps:g} is a column of one line, and so of one iteration")
            found += _contradiction(log, summary.fps, text("TrainingTime"))
    if "ActualLoss" in summary.entries:
        if summary.loss is None:
            found.append(f"losses: ActualLoss '{text('ActualLoss')}' is no number: the column holds something else")
        elif (log.processes or 1) > 1:
            found.append(f"losses: ActualLoss is of one rank of {log.processes}")
    return found


def _contradiction(log: TrainingLog, fps: float, stated: str) -> list[str]:
    """Say where the time of an iteration, which the scripts compute from the speed, is another."""
    try:
        milliseconds = float(stated)
    except ValueError:
        milliseconds = math.nan
    expected = math.inf if fps == 0 or log.batch_size is None else 1000 * log.batch_size / fps
    if abs(milliseconds / expected - 1) <= ALLOWED_QUOTIENT:
        return []
    return [f"images a second: TrainingTime {stated or 'is empty'} is not 1000 x {log.batch_size} / {fps:g}"]
