"""The outcome of one stage: from comparisons to the record of the results document and the message of a failure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.comparison import Comparison
from harness.report.escape import printable, printable_lines
from harness.report.records import Accuracy, Outcome, Perf, Stage

SHOWN = 6
"""Deviating comparisons that the message of a failure lists, and images with close calls that a stage names."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """Outcome of a stage.

    Attributes:
        stage: The record for the results document.
        comparisons: All that was compared.
        accuracy: The AP, in the stage that measures one.
        perf: Speeds that were measured on the way.
    """

    stage: Stage
    comparisons: tuple[Comparison, ...] = ()
    accuracy: Accuracy | None = None
    perf: tuple[Perf, ...] = ()

    @property
    def is_green(self) -> bool:
        """Whether the stage neither failed nor stayed undecided."""
        return self.stage.outcome not in ("failed", "undecided")

    @property
    def further_records(self) -> tuple[Accuracy | Perf, ...]:
        """Records beside that of the stage."""
        return (*(() if self.accuracy is None else (self.accuracy,)), *self.perf)

    def message(self, device: str, precision: str) -> str:
        """Describe a stage that is not green: place, count, and the first deviations."""
        stage = self.stage
        where = printable(f"stage {stage.name}, device {device}, precision {precision}, batch size {stage.batch_size}")
        problems = [comparison for comparison in self.comparisons if comparison.problem is not None]
        if stage.outcome == "undecided" or not problems:
            return printable_lines(f"{where}: {stage.detail}")
        lines = [f"  {printable(comparison)}" for comparison in problems[:SHOWN]]
        rest = len(problems) - SHOWN
        lines += [f"  and {rest} more"] if rest > 0 else []
        return "\n".join([f"{where}: {len(problems)} of {len(self.comparisons)} comparisons deviate", *lines])


def judge(name: str, batch_size: int | None, comparisons: Sequence[Comparison]) -> StageResult:
    """Fail a stage where a comparison deviates or where nothing was compared, else pass it."""
    problem = next((str(comparison) for comparison in comparisons if comparison.problem is not None), None)
    compared = any(comparison.count > 0 for comparison in comparisons)
    detail = problem or (None if compared else "nothing was compared")
    outcome: Outcome = "failed" if detail else "passed"
    return _compared(name, batch_size, outcome, comparisons, detail or _close_calls(comparisons))


def _close_calls(comparisons: Sequence[Comparison]) -> str | None:
    """Say which images have a detection that hangs on a close call, which is no failure."""
    close = [f"{one.what.partition(',')[0]} ({one.close})" for one in comparisons if one.close]
    if not close:
        return None
    more = f" and {len(close) - SHOWN} images more" if len(close) > SHOWN else ""
    return f"close calls of threshold, NMS or rank, either way right: candidates in {', '.join(close[:SHOWN])}{more}"


def undecided(name: str, batch_size: int | None, comparison: Comparison, reason: str) -> StageResult:
    """Leave a stage undecided: what was given is not enough to tell, and that is not green."""
    return _compared(name, batch_size, "undecided", [comparison], reason)


def not_applicable(name: str, batch_size: int | None, reason: str) -> StageResult:
    """Say that a stage cannot exist for this run: neither a pass nor a missing test."""
    return StageResult(_without_limit(name, batch_size, None, 0, reason))


def measured_only(
    name: str, batch_size: int | None, comparisons: Sequence[Comparison], reason: str, losses: Mapping[str, float]
) -> StageResult:
    """Report the largest differences where no limit can be derived; what could not be compared fails all the same.

    Args:
        name: Of the stage.
        batch_size: Of the run.
        comparisons: What was measured.
        reason: Why there is no limit.
        losses: See `Artifact`.
    """
    if any(comparison.problem is not None for comparison in comparisons) or not comparisons:
        return judge(name, batch_size, comparisons)
    largest: dict[str, float] = {}
    for comparison in comparisons:
        head = comparison.what.rpartition("head ")[2]
        largest[head] = max(largest.get(head, 0.0), comparison.measured)
    shown = ", ".join(f"{head} {value:.3g}" for head, value in largest.items())
    if losses:
        most = ", ".join(f"{tensor} ({loss:.0%})" for tensor, loss in losses.items())
        shown += f"; the first to lose much are {most}: where some are to stay in float, begin with them"
        shown += " ([int8] keep_float of the model card)"
    detail = f"largest difference of {shown}; {reason}"
    worst = max(largest.values())
    stage = _without_limit(name, batch_size, worst if math.isfinite(worst) else None, len(comparisons), detail)
    return StageResult(stage, tuple(comparisons))


def judged_outputs(name: str, batch_size: int | None, check: Callable[[], StageResult]) -> StageResult:
    """Run a check; a device that returns wrong tensors or NaN during it fails the stage."""
    try:
        return check()
    except (DeviceOutputError, NonFiniteHeadError) as error:
        return judge(name, batch_size, [Comparison("outputs", math.inf, 0, 0, str(error))])


def _compared(
    name: str, batch_size: int | None, outcome: Outcome, comparisons: Sequence[Comparison], detail: str | None
) -> StageResult:
    # The comparison that comes closest to its limit, or is furthest beyond.
    closest = max(comparisons, key=lambda comparison: comparison.share, default=None)
    measured = None if closest is None or not math.isfinite(closest.measured) else closest.measured
    allowed = None if closest is None else closest.allowed
    stage = Stage(
        name=name,
        batch_size=batch_size,
        outcome=outcome,
        measured=measured,
        allowed=allowed,
        comparisons=sum(comparison.count > 0 for comparison in comparisons),
        detail=detail,
        margin=measured / allowed if measured is not None and allowed else None,
    )
    return StageResult(stage, tuple(comparisons))


def _without_limit(name: str, batch_size: int | None, measured: float | None, comparisons: int, detail: str) -> Stage:
    return Stage(
        name=name,
        batch_size=batch_size,
        outcome="not-applicable",
        measured=measured,
        allowed=None,
        comparisons=comparisons,
        detail=detail,
    )
