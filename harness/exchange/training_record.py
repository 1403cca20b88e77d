"""Records of a training log, whichever tool wrote it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median_low

from harness.errors import HarnessError

LARGEST = 1e12
"""Magnitude that no time, rate or count in a log reaches."""
REMEDY = "copy the log again, or cut out the lines that are damaged"


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """Figures of one iteration in a log.

    Attributes:
        line: Line of the file, from 1.
        iteration: Its number in the log (see `TrainingLog.counted_from`).
        losses: By name; NaN and infinity are kept, since that is what the training computed.
        learning_rate: None where it is not logged.
        seconds: Time of an iteration, as the log smooths it (see `TrainingLog.running_mean`).
        data_seconds: Time that an iteration waited for its images.
        step_fps: Images a second of this iteration alone.
    """

    line: int
    iteration: int
    losses: Mapping[str, float]
    learning_rate: float | None
    seconds: float | None
    data_seconds: float | None
    step_fps: float | None


@dataclass(frozen=True, slots=True)
class LoggedAccuracy:
    """An evaluation within a log.

    Attributes:
        line: Line of the file, from 1.
        iteration: The last that was logged before it, likewise; None where there is none.
        figures: AP, AP50 and so on as fractions, by the name in the table; NaN where no object is of that size.
    """

    line: int
    iteration: int | None
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PortSummary:
    """Summary of one of the Ascend port's scripts (``*_acc.log``, ``*_eval.log``).

    Attributes:
        entries: Text by key, as it stands there.
        fps: ``ActualFPS``; None where it is empty or no number.
        loss: ``ActualLoss``; None likewise.
        accuracy: ``TrainAccuracy`` as a fraction; None likewise.
    """

    entries: Mapping[str, str]
    fps: float | None
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """A training log.

    Attributes:
        file: The file.
        kind: Which kind of log it is, in words.
        steps: By ascending iteration, each once.
        accuracies: In the order of the file.
        batch_size: Images of an iteration over all processes; None where the log does not say.
        processes: How many trained; None where the log does not say.
        planned: Iterations that the run was to have; None where the log does not say.
        counted_from: Number of the first iteration: 0 in trainers of detectron2, 1 in the loop of CenterNet2.
        started: Iterations that were done when the run was last started.
        ranks: Records that the file has of one iteration, as of so many processes that wrote into it.
        ranks_differ: Whether these state other losses.
        running_mean: Whether `seconds` is the mean over all iterations since the start, as detectron2 prints it;
            otherwise it is the median of the last 20.
        summary: Of the Ascend port's script, in whose place it stands.
        remarks: What had to be left out or put together in reading.
    """

    file: Path
    kind: str
    steps: tuple[LoggedStep, ...] = ()
    accuracies: tuple[LoggedAccuracy, ...] = ()
    batch_size: int | None = None
    processes: int | None = None
    planned: int | None = None
    counted_from: int = 0
    started: int = 0
    ranks: int = 1
    ranks_differ: bool = False
    running_mean: bool = False
    summary: PortSummary | None = None
    remarks: tuple[str, ...] = ()

    @property
    def period(self) -> int:
        """Iterations between two records; the last of a run is often nearer."""
        gaps = [after.iteration - before.iteration for before, after in pairwise(self.steps)]
        return median_low(gaps) if gaps else 1

    def done(self, step: LoggedStep) -> int:
        """Return how many iterations are done with a step."""
        return step.iteration - self.counted_from + 1


def fractions(percents: Mapping[str, float], file: Path, line: int) -> dict[str, float]:
    """Return the figures of an evaluation in percent as fractions.

    Raises:
        HarnessError: One cannot be; only the AP of a size may be NaN, of which there was no object.
    """
    figures = {name: value / 100 for name, value in percents.items()}
    for name, value in figures.items():
        if not 0 <= value <= 1 and (name == "AP" or not math.isnan(value)):
            raise HarnessError(f"{name} cannot be {100 * value:g}", file=file, field=f"line {line}", remedy=REMEDY)
    return figures


def finite(value: float, what: str, file: Path, line: int) -> float:
    """Return a figure that a log must have as a finite number.

    Raises:
        HarnessError: It is NaN, infinite, negative or beyond `LARGEST`.
    """
    if not 0 <= value <= LARGEST:  # comparisons with NaN are false
        shown = "nan" if math.isnan(value) else f"{value:g}"
        raise HarnessError(f"{what} cannot be {shown}", file=file, field=f"line {line}", remedy=REMEDY)
    return value
