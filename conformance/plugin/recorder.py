"""Writes down what a test found before it judges, so that the document holds failures too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.comparison import Comparison
from harness.devices.artifact import Artifact, CompilerEstimate
from harness.faults.diagnosis.text import answers
from harness.report.records import (
    ESTIMATED,
    Accuracy,
    Diagnosis,
    Executed,
    Latency,
    Message,
    Outcome,
    Perf,
    Reported,
    Stage,
    pack,
)
from harness.run.pipeline import Timing

PROPERTY = "centernet_conformance"
SHOWN = 6


class StageFailure(AssertionError):
    """A device deviates in a stage."""

    def __init__(self, stage: str, message: str) -> None:
        self.stage = stage
        super().__init__(message)


class StageUndecided(StageFailure):
    """What was given is not enough to tell whether a device deviates in a stage."""


class Recorder:
    """Reports what one test finds about one device.

    Args:
        item: The test.
        device: Name of the device.
        precision: Of the run.
        batch_size: Of the test.
    """

    def __init__(self, item: pytest.Item, device: str, precision: str, batch_size: int) -> None:
        self.item = item
        self.device = device
        self.precision = precision
        self.batch_size = batch_size

    def executed(self, artifact: Artifact) -> None:
        """Note what the device really runs."""
        self._emit(Executed(device=self.device, precision=self.precision, executed=artifact.executed))

    def stage(self, name: str, comparisons: Sequence[Comparison]) -> None:
        """Note how a stage came out, and fail where it deviates or where nothing was compared."""
        __tracebackhide__ = True
        problems = [comparison for comparison in comparisons if comparison.problem is not None]
        count = sum(comparison.count > 0 for comparison in comparisons)
        detail = str(problems[0]) if problems else None if count else "nothing was compared"
        self._emit(self._judged(name, "failed" if detail else "passed", comparisons, detail))
        where = f"stage {name}, device {self.device}, precision {self.precision}, batch size {self.batch_size}"
        if problems:
            lines = [f"  {comparison}" for comparison in problems[:SHOWN]]
            rest = len(problems) - SHOWN
            lines += [f"  and {rest} more"] if rest > 0 else []
            head = f"{where}: {len(problems)} of {len(comparisons)} comparisons deviate"
            raise StageFailure(name, "\n".join([head, *lines]))
        if detail:
            raise StageFailure(name, f"{where}: {detail}")

    def undecided(self, name: str, comparison: Comparison, reason: str) -> None:
        """Note that a stage neither passes nor fails on what was given, and fail: it is not green."""
        __tracebackhide__ = True
        self._emit(self._judged(name, "undecided", [comparison], reason))
        where = f"stage {name}, device {self.device}, precision {self.precision}, batch size {self.batch_size}"
        raise StageUndecided(name, f"{where}: {reason}")

    def _judged(self, name: str, outcome: Outcome, comparisons: Sequence[Comparison], detail: str | None) -> Stage:
        # The comparison that comes closest to its limit, or is furthest beyond.
        closest = max(comparisons, key=lambda c: c.measured / c.allowed if c.allowed else c.measured, default=None)
        measured = None if closest is None else _worst([closest.measured])
        allowed = None if closest is None else closest.allowed
        return Stage(
            name=name,
            batch_size=self.batch_size,
            outcome=outcome,
            measured=measured,
            allowed=allowed,
            comparisons=sum(comparison.count > 0 for comparison in comparisons),
            detail=detail,
            margin=measured / allowed if measured is not None and allowed else None,
        )

    def measured_only(
        self, name: str, comparisons: Sequence[Comparison], reason: str, losses: Mapping[str, float]
    ) -> None:
        """Note what was measured where nothing says what is allowed; what could not be compared fails all the same.

        Args:
            name: Of the stage.
            comparisons: What was measured.
            reason: Why nothing says what is allowed.
            losses: See `Artifact`.
        """
        if any(comparison.problem is not None for comparison in comparisons) or not comparisons:
            self.stage(name, comparisons)
        largest: dict[str, float] = {}
        for comparison in comparisons:
            head = comparison.what.rpartition("head ")[2]
            largest[head] = max(largest.get(head, 0.0), comparison.measured)
        shown = ", ".join(f"{head} {value:.3g}" for head, value in largest.items())
        if losses:
            most = ", ".join(f"{tensor} ({loss:.0%})" for tensor, loss in losses.items())
            shown += f"; the first to lose much are {most}: where some are to stay in float, begin with them"
            shown += " ([int8] keep_float of the model card)"
        self._emit(
            Stage(
                name=name,
                batch_size=self.batch_size,
                outcome="not-applicable",
                measured=_worst(list(largest.values())),
                allowed=None,
                comparisons=len(comparisons),
                detail=f"largest difference of {shown}; {reason}",
            )
        )

    @contextmanager
    def outputs_of(self, name: str) -> Iterator[None]:
        """A device that returns the wrong tensors, or NaN, deviates in stage `name`."""
        try:
            yield
        except (DeviceOutputError, NonFiniteHeadError) as error:
            self.stage(name, [Comparison("outputs", float("inf"), 0, 0, str(error))])

    @contextmanager
    def diagnosed(self, explain: Callable[[], Sequence[Diagnosis]]) -> Iterator[None]:
        """Where a stage deviates, note which known mistakes explain it, and say so with the failure."""
        try:
            yield
        except StageFailure as failure:
            found = explain()
            for diagnosis in found:
                self._emit(diagnosis)
            lines = [f"  diagnosis: {line}" for line in answers(found)]
            raise StageFailure(failure.stage, "\n".join([str(failure), *lines])) from None

    def not_applicable(self, name: str, reason: str) -> None:
        """Note that a stage cannot exist here."""
        self._emit(
            Stage(
                name=name,
                batch_size=self.batch_size,
                outcome="not-applicable",
                measured=None,
                allowed=None,
                comparisons=0,
                detail=reason,
            )
        )

    def accuracy(self, accuracy: Accuracy) -> None:
        """Note an AP."""
        self._emit(Reported(device=self.device, precision=self.precision, record=accuracy))

    def perf(self, fps: float, latency_ms: Sequence[float], interval: str) -> None:
        """Note a speed."""
        p50, p90, p99 = (float(value) for value in np.percentile(latency_ms, (50, 90, 99)))
        latency = Latency(p50=p50, p90=p90, p99=p99)
        record = Perf(batch_size=self.batch_size, fps=fps, latency_ms=latency, interval=interval)
        self._emit(Reported(device=self.device, precision=self.precision, record=record))

    def estimate(self, estimate: CompilerEstimate, published: float | None) -> None:
        """Note what a compiler believes the speed to be, beside what the vendor publishes (fps)."""
        latency = estimate.latency_ms
        beside = "" if published is None else f"; published: {published:g} fps"
        self.perf(1000 * self.batch_size / latency, [latency], f"{ESTIMATED}: {estimate.note}{beside}")

    def end_to_end(self, timing: Timing) -> None:
        """Note the speed of an accuracy run."""
        self.perf(timing.fps_end_to_end, timing.latency_ms, "end to end: read, preprocess, device, decode")

    def _emit(self, record: Stage | Diagnosis | Message) -> None:
        if isinstance(record, Stage | Diagnosis):
            record = Reported(device=self.device, precision=self.precision, record=record)
        self.item.user_properties.append((PROPERTY, pack(record)))


def _worst(values: Sequence[float]) -> float | None:
    """The largest finite value; None where there is none that JSON could hold."""
    finite = [value for value in values if np.isfinite(value)]
    return max(finite) if finite and len(finite) == len(values) else None
