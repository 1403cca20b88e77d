"""Writes down what a check found, so that the document holds failures too, and fails the test where it is not green."""

from collections.abc import Callable, Sequence

import pytest

from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.devices.artifact import Artifact, CompilerEstimate
from harness.report import records
from harness.report.escape import printable
from harness.run.diagnose import failure_text

PROPERTY = "centernet_conformance"


def test_name(item: pytest.Item) -> str:
    """``module.py::test_name``, which the entries of expectations match and the tables of tests have."""
    return f"{item.path.name}::{getattr(item, 'originalname', item.name)}"


class StageFailure(AssertionError):
    """A device deviates in a stage, or what was given is not enough to tell.

    Args:
        stage: Name of the stage.
        message: For the engineer.
    """

    def __init__(self, stage: str, message: str) -> None:
        self.stage = stage
        super().__init__(message)


class StageUndecided(StageFailure):
    """Too little was given to tell whether a device deviates in a stage."""


class Recorder:
    """Reports what one test finds about one device.

    Args:
        item: The test.
        device: Name of the device.
        precision: Of the run.
        batch_size: Of the test.
        say: Tells at once what is not green, of which pytest speaks when all tests have run.
    """

    def __init__(
        self, item: pytest.Item, device: str, precision: str, batch_size: int, say: Callable[[str], None]
    ) -> None:
        self.item, self.device, self.precision, self.batch_size = item, device, precision, batch_size
        self.say = say

    def settle(self, result: StageResult, diagnose: Callable[[], Sequence[records.Diagnosis]] | None = None) -> None:
        """Note the outcome of a stage, and fail where it is not green.

        Args:
            result: Of a check.
            diagnose: Finds the known mistakes that explain a stage that is not green.
        """
        __tracebackhide__ = True
        for record in (result.stage, *result.further_records):
            self._report(record)
        if result.is_green:
            return
        stage = result.stage
        detail = printable("".join((stage.detail or "").splitlines()[:1]))
        self.say(f"{self.device}, batch size {self.batch_size}: stage {stage.name}: {stage.outcome}: {detail}")
        found = () if diagnose is None else diagnose()
        for diagnosis in found:
            self._report(diagnosis)
        kind = StageUndecided if result.stage.outcome == "undecided" else StageFailure
        raise kind(result.stage.name, failure_text(result, found, self.device, self.precision))

    def stage(self, name: str, comparisons: Sequence[Comparison]) -> None:
        """Note how a stage came out, and fail where a comparison deviates or nothing was compared."""
        __tracebackhide__ = True
        self.settle(judge(name, self.batch_size, comparisons))

    def not_applicable(self, name: str, reason: str) -> None:
        """Note that a stage cannot exist here."""
        self.settle(not_applicable(name, self.batch_size, reason))

    def executed(self, artifact: Artifact) -> None:
        """Note what the device really runs."""
        self._emit(records.Executed(device=self.device, precision=self.precision, executed=artifact.executed))

    def trained(self, executed: dict[str, str]) -> None:
        """Note what a device that trains really runs on."""
        self._emit(records.Executed(device=self.device, precision=self.precision, executed=executed))

    def perf(self, fps: float, latency_ms: Sequence[float], interval: str) -> None:
        """Note a speed."""
        latency = records.Latency.of(latency_ms)
        self._report(records.Perf(batch_size=self.batch_size, fps=fps, latency_ms=latency, interval=interval))

    def speed(self, perf: records.Perf) -> None:
        """Note a speed that was measured here."""
        self._report(perf)

    def estimate(self, estimate: CompilerEstimate, published: float | None) -> None:
        """Note a compiler's estimate of the speed, beside what the vendor publishes (fps)."""
        latency = estimate.latency_ms
        beside = "" if published is None else f"; published: {published:g} fps"
        self.perf(1000 * self.batch_size / latency, [latency], f"{records.ESTIMATED}: {estimate.note}{beside}")

    def _report(self, record: records.Stage | records.Accuracy | records.Perf | records.Diagnosis) -> None:
        test = test_name(self.item)
        self._emit(records.Reported(device=self.device, precision=self.precision, test=test, record=record))

    def _emit(self, message: records.Message) -> None:
        self.item.user_properties.append((PROPERTY, records.pack(message)))
