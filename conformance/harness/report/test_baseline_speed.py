"""A measured speed is compared by its ratio to the yardstick, where both documents have one."""

import numpy as np
import pytest

from conformance.support.example_records import document, run
from harness.report.baseline import regressions, speeds_beside
from harness.report.baseline_speed import compare_speeds
from harness.report.records import HOST_ARRAYS, Latency, Perf, Run


def speed(ms: float, *, machine: float = 1.0, spread: float = 0.02, seed: int = 0, batches: int = 50) -> Perf:
    """A speed beside a yardstick of 2 ms, on a machine that takes `machine` times as long for both."""
    random = np.random.default_rng(seed)
    times, yardstick = (base * machine * np.exp(random.normal(0, spread, batches)) for base in (ms, 2.0))
    return Perf(
        batch_size=1,
        fps=1000 / float(np.median(times)),
        latency_ms=Latency.of(times.tolist()),
        interval=HOST_ARRAYS,
        batch_ms=tuple(times.tolist()),
        yardstick_ms=tuple(yardstick.tolist()),
        yardstick="yardstick-1",
    )


def of(perf: Perf) -> Run:
    return run(perf)


@pytest.mark.parametrize(("factor", "answer"), [(1.0, "kept"), (0.5, "kept"), (1.03, "kept"), (1.2, "slower")])
@pytest.mark.parametrize("machine", [1.0, 3.0])
def test_ratio_to_the_yardstick_counts_whatever_the_machine(factor: float, answer: str, machine: float) -> None:
    for seed in range(5):
        now = speed(10 * factor, machine=machine, seed=seed)
        gate = compare_speeds(of(speed(10, seed=99)), of(now), 0.1)
        assert [name for name in ("slower", "open", "kept") if getattr(gate, name)] == [answer]


def test_spread_that_does_not_allow_to_tell_is_neither_pass_nor_failure() -> None:
    gate = compare_speeds(of(speed(10, spread=0.5, seed=1)), of(speed(10.5, spread=0.5, seed=2)), 0.1)
    assert not gate.slower + gate.kept
    [said] = gate.open
    assert said.startswith("chip fp32: speed at batch size 1: time beside the yardstick ")
    assert said.endswith("allowed 1.100: the spread does not allow to tell")


def test_equal_speeds_hardly_ever_deviate() -> None:
    gates = [
        compare_speeds(of(speed(10, spread=0.2, seed=i)), of(speed(10, spread=0.2, seed=i + 500)), 0.1)
        for i in range(30)
    ]
    assert sum(bool(gate.slower) for gate in gates) == 0


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"batch_ms": (), "yardstick_ms": (), "yardstick": ""}, {}, "the baseline has no samples of it"),
        ({"yardstick_ms": (), "yardstick": ""}, {}, "the baseline has no yardstick (its document is older)"),
        ({}, {"yardstick_ms": (), "yardstick": "none: a folder"}, "this run has no yardstick (none: a folder)"),
        ({"batch_ms": (1.0,), "yardstick_ms": (1.0,)}, {}, "the baseline has too few samples of it, or not a time of"),
        ({"yardstick": "yardstick-0"}, {}, "other yardsticks: 'yardstick-0', now 'yardstick-1'"),
    ],
)
def test_what_cannot_be_compared_says_why(old: dict[str, object], new: dict[str, object], reason: str) -> None:
    before, now = (speed(10).model_copy(update=changes) for changes in (old, new))
    gate = compare_speeds(of(before), of(now), 0.1)
    assert not gate.slower + gate.kept
    assert f"speed at batch size 1 is not compared: {reason}" in gate.open[0]


def test_speeds_end_to_end_and_estimates_are_left_alone() -> None:
    for interval in ("end to end: read", "estimated: by a compiler"):
        other = speed(1).model_copy(update={"interval": interval, "batch_ms": (), "yardstick_ms": ()})
        gate = compare_speeds(of(other), of(other), 0.1)
        assert not gate.slower + gate.open + gate.kept


def test_gate_of_a_document_holds_each_device_to_itself() -> None:
    earlier = document(run(speed(10)), run(speed(20), device="other"))
    gate = speeds_beside(earlier, [run(speed(20), device="other"), run(speed(20))], 0.1)
    assert [text.partition(":")[0] for text in gate.slower] == ["chip fp32"]
    assert len(gate.kept) == 1
    assert regressions(earlier, [run(speed(20))]) == []
