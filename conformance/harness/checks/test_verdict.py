"""The verdict: accuracy alone can conform, speed alone is measured, and the worst of all devices counts."""

from collections.abc import Sequence
from typing import get_args

import pytest

from conformance.support.example_records import accuracy, stage
from harness.checks.verdict import EXIT_STATUS, ORDER, verdict_of_document, verdict_of_exception, verdict_of_run
from harness.errors import DeviceEndedError, HarnessError
from harness.report.records import Latency, Outcome, Perf, Verdict

SPEED = Perf(batch_size=1, fps=1.0, latency_ms=Latency(p50=1, p90=2, p99=3), interval="device")
FINE: tuple[Verdict, ...] = ()


@pytest.mark.parametrize(
    ("outcomes", "perf", "beside", "wanted"),
    [
        ({"estimate": "passed"}, [], FINE, "measured"),
        ({"perf": "not-applicable"}, [SPEED], FINE, "measured"),
        ({}, [SPEED], FINE, "measured"),
        ({"pipeline": "passed", "harness-overhead": "failed"}, [SPEED], FINE, "deviates"),
        ({"estimate": "passed"}, [SPEED], ("undecided",), "undecided"),
        ({}, [], FINE, "undecided"),
        ({"heads": "passed", "estimate": "passed"}, [SPEED], FINE, "conforms"),
        ({"heads": "passed"}, [], ("incomplete",), "incomplete"),
        ({"heads": "undecided"}, [], ("incomplete",), "incomplete"),
        ({"heads": "failed"}, [], ("incomplete",), "deviates"),
        ({"heads": "failed"}, [], ("incomplete", "error"), "error"),
    ],
)
def test_verdict_of_run(
    outcomes: dict[str, Outcome], perf: list[Perf], beside: Sequence[Verdict], wanted: Verdict
) -> None:
    stages = [stage(outcome, name) for name, outcome in outcomes.items()]
    stages = [one if one.outcome == "passed" else one.model_copy(update={"comparisons": 0}) for one in stages]
    assert verdict_of_run(stages, [], perf, beside) == wanted


def test_speed_beside_an_ap_that_was_not_compared_decides_nothing() -> None:
    nothing = stage("not-applicable", "accuracy").model_copy(update={"comparisons": 0})
    assert verdict_of_run([nothing], [accuracy(0.5)], [SPEED], FINE) == "undecided"
    assert verdict_of_run([], [accuracy(0.5)], [SPEED], FINE) == "undecided"


def test_first_of_several_verdicts_holds() -> None:
    assert set(ORDER) == set(EXIT_STATUS) == set(get_args(Verdict))
    for place, verdict in enumerate(ORDER):
        assert verdict_of_document(reversed(ORDER[place:]), FINE) == verdict
    assert [verdict for verdict in ORDER if not EXIT_STATUS[verdict]] == ["part", "measured", "conforms"]
    assert verdict_of_document(["conforms"], ["incomplete"]) == "incomplete"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (HarnessError("no such file"), "error"),
        (DeviceEndedError("its process ended with status 0"), "incomplete"),
        (RuntimeError("the driver has lost the device"), "incomplete"),
        (SystemExit(0), "incomplete"),
        (None, "incomplete"),
    ],
)
def test_exception_of_a_device_is_a_stage_that_did_not_run(error: BaseException | None, verdict: Verdict) -> None:
    assert verdict_of_exception(error) == verdict
