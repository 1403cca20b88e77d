"""The closing lines say of each device what did not run, what failed as expected, and on how many images it rests."""

from __future__ import annotations

from conformance.support.example_records import accuracy, document, run, stage
from harness.report.records import Document, Run, Stage
from harness.report.terminal import not_run_text, summary


def closing(of: Document, lines: int) -> list[str]:
    """The last lines of the summary."""
    return [line.text for line in summary(of)][-lines:]


def without(found: Run, *names: str) -> Run:
    return found.model_copy(update={"verdict": "incomplete", "not_run": names})


def test_stages_that_did_not_run_stand_beside_the_verdict_and_once() -> None:
    part = without(
        run(stage("passed")), "accuracy at batch size 1", "heads at batch size 4", "accuracy at batch size 4"
    )
    of = document(part).model_copy(update={"verdict": "incomplete", "problems": ("lost", not_run_text(part))})
    assert closing(of, 4) == [
        "problem: lost",
        "chip fp32: incomplete, not run: accuracy at batch sizes 1 and 4; heads at batch size 4",
        "verdict: incomplete",
        "1 comparisons over 9 images on chip",
    ]


def test_expected_failures_are_counted_and_named_by_device() -> None:
    one = run(stage("expected-failure"), stage("expected-failure", batch_size=4), stage("passed", "accuracy"))
    other = run(stage("expected-failure", "accuracy", 8), device="gpu")
    of = document(one, other).model_copy(update={"expected_failures": 3})
    named = "chip in heads at batch sizes 1 and 4; gpu in accuracy at batch size 8"
    assert closing(of, 2)[0] == f"verdict: conforms, with 3 expected failures: {named}"
    single = document(run(stage("expected-failure"))).model_copy(update={"expected_failures": 1})
    assert closing(single, 2)[0] == "verdict: conforms, with 1 expected failure: chip in heads at batch size 1"


def test_floor_that_was_not_applied_stands_beside_the_verdict() -> None:
    ap = accuracy(0.5).model_copy(update={"floor": "floor not applicable (23 images)"})
    assert closing(document(run(stage("passed"), ap)), 3)[0] == "chip fp32: conforms, floor not applicable (23 images)"
    none = accuracy(0.5).model_copy(update={"floor": "floor not applicable (no published AP on the card)"})
    assert closing(document(run(stage("passed"), none)), 3)[0] == "chip fp32: conforms"


def counted(*stages: Stage) -> str:
    return closing(document(run(*stages)), 1)[0]


def test_images_count_where_some_were_judged() -> None:
    assert counted(stage("passed"), stage("passed", "contract")) == "2 comparisons over 9 images on chip"
    assert counted(stage("passed", "contract"), stage("passed", "speed")) == "2 comparisons over 0 images on chip"
    assert closing(document(), 1) == ["0 comparisons: no device was checked"]
