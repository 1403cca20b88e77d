"""Learning rates by iteration: those of a recipe's solver, and those of the one-stage training loop."""

from __future__ import annotations

import math
from bisect import bisect_right

from pydantic import ValidationError

from harness.cards import Solver
from harness.errors import HarnessError

WARM_UP = 200
"""Iterations over which the rate of the one-stage loop rises; without warm-up, Adam drives the DCN offsets far out."""


def learning_rate(solver: Solver, iteration: int) -> float:
    """Return the learning rate of an iteration, counted from 0: linear warm-up, then a drop at each step.

    Within the warm-up it is ``base_lr * (f * (1 - i / w) + i / w)`` with the warm-up factor f, the iteration i and the
    iterations of the warm-up w; then ``base_lr * gamma ** (steps that are reached)``.
    """
    if iteration < solver.warmup_iterations:
        done = iteration / solver.warmup_iterations
        return solver.base_lr * (solver.warmup_factor * (1 - done) + done)
    return solver.base_lr * solver.gamma ** bisect_right(solver.steps, iteration)


def scaled_to(solver: Solver, batch_size: int) -> Solver:
    """Scale a solver linearly to another batch size: the rate by the ratio, all counts of iterations by its inverse.

    As many images pass between the same points of the schedule as before, to within the rounding of iterations.

    Args:
        solver: Of a recipe card.
        batch_size: Images of an iteration over all processes.

    Raises:
        HarnessError: The batch is so large that two points of the schedule fall together.
    """
    if batch_size == solver.batch_size:
        return solver
    ratio = batch_size / solver.batch_size

    def scaled(iterations: int) -> int:
        return round(iterations / ratio)

    values = {
        **solver.model_dump(),
        "batch_size": batch_size,
        "base_lr": solver.base_lr * ratio,
        "warmup_iterations": scaled(solver.warmup_iterations),
        "steps": tuple(scaled(step) for step in solver.steps),
        "iterations": scaled(solver.iterations),
    }
    try:
        return Solver.model_validate(values)
    except ValidationError as error:
        raise HarnessError(
            f"the schedule of {solver.iterations} iterations cannot be scaled to batches of {batch_size}",
            field="--batch-size",
            remedy=f"give a batch size nearer to {solver.batch_size}",
        ) from error


def cosine_learning_rate(highest: float, iterations: int, iteration: int) -> float:
    """Return the learning rate of an iteration: linear warm-up of `WARM_UP`, then half a cosine down to a hundredth.

    Args:
        highest: Rate at the end of the warm-up.
        iterations: Iterations of the whole run.
        iteration: The iteration, from 0.
    """
    if iteration < WARM_UP:
        return highest * (iteration + 1) / WARM_UP
    done = (iteration - WARM_UP) / max(1, iterations - WARM_UP)
    return highest * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2)
