"""One selected test of a group owes all of it, for every device and batch size."""

from __future__ import annotations

import pytest

from conformance.support.example_records import accuracy, stage
from harness.checks.owed import GROUPS, by_batch_size, groups_of, not_run, owed_by
from harness.report.records import Executed, Latency, Message, Perf, Reported, Trouble

[*_, AP], [FPS, *_] = GROUPS["accuracy"], GROUPS["perf"]
SPEED = Perf(batch_size=1, fps=1.0, latency_ms=Latency(p50=1, p90=2, p99=3), interval="device")


@pytest.mark.parametrize("group", GROUPS)
def test_one_test_of_a_group_owes_all_of_it(group: str) -> None:
    for test in GROUPS[group]:
        assert groups_of([test, "test_loop.py::test_loss"]) == {group}
    assert groups_of(["test_loop.py::test_loss"]) == frozenset()
    owed = owed_by({group}, (4, 1))
    assert [(one.test, one.batch_size) for one in owed] == [(test, size) for size in (4, 1) for test in GROUPS[group]]


def test_both_groups_are_owed_where_tests_of_both_are_selected() -> None:
    assert groups_of([AP, FPS]) == {"accuracy", "perf"}
    both = len(GROUPS["accuracy"]) + len(GROUPS["perf"])
    assert len(owed_by(groups_of([AP, FPS]), (1,))) == both
    assert owed_by((), (1, 4)) == ()


def reported(record: object, test: str, device: str = "chip") -> Reported:
    return Reported.model_validate({"device": device, "precision": "fp32", "test": test, "record": record})


@pytest.mark.parametrize(
    ("message", "ran"),
    [
        (reported(stage("passed", "accuracy"), AP), True),
        (reported(stage("failed", "accuracy"), AP), True),
        (reported(stage("expected-failure", "conversion"), AP), True),
        (reported(stage("passed", "accuracy", 4), AP), False),
        (reported(stage("passed", "accuracy"), FPS), False),
        (reported(stage("passed", "accuracy"), AP, "other"), False),
        (reported(accuracy(0.5), AP), False),
        (reported(SPEED, AP), True),
        (Executed(device="chip", precision="fp32", executed={}), False),
        (Trouble(device="chip", text="broken", verdict="incomplete"), False),
    ],
)
def test_test_ran_where_it_reported_a_stage_or_a_speed_of_its_own(message: Message, ran: bool) -> None:
    [*_, owed] = owed_by({"accuracy"}, (1,))
    assert not_run([owed], "chip", [message]) == (() if ran else ("accuracy at batch size 1",))


def test_stages_with_the_same_batch_sizes_are_told_together() -> None:
    names = [str(one) for one in owed_by({"accuracy"}, (1, 4)) if (one.stage, one.batch_size) != ("batch", 1)]
    text = "contract, heads, detections and accuracy at batch sizes 1 and 4; batch at batch size 4"
    assert by_batch_size(names) == text
    assert by_batch_size(["stated speed at batch size 16"]) == "stated speed at batch size 16"
    assert by_batch_size([]) == ""
