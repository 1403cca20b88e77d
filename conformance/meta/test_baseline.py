"""The gate lets nothing through that is worse than it was, and refuses what it cannot compare with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.example_records import accuracy, document, run, stage
from conformance.support.suite import CHECKS, Suite
from harness.errors import HarnessError
from harness.paths import data_path
from harness.report.baseline import AP_DROP_ALLOWED, Gated, check_matches, read_document, regressions
from harness.report.records import Outcome, to_json

Change = Callable[[dict[str, Any]], None]


@given(before=st.integers(0, 10_000), after=st.integers(0, 10_000))
def test_ap_may_fall_by_two_tenths_of_a_point_and_no_more(before: int, after: int) -> None:
    found = regressions(document(run(accuracy(before / 10_000))), [run(accuracy(after / 10_000))])
    assert bool(found) == (before - after > 10_000 * AP_DROP_ALLOWED)
    if found:
        fell = f"from {before / 10_000:.4f} to {after / 10_000:.4f}"
        assert found == [f"chip fp32: AP at batch size 1 fell {fell}, by more than 0.0020"]


@pytest.mark.parametrize("now", get_args(Outcome))
def test_stage_that_passed_must_pass(now: Outcome) -> None:
    other = stage("passed", batch_size=4)
    found = regressions(document(run(stage("passed"), other)), [run(other, stage(now))])
    assert found == ([] if now == "passed" else [f"chip fp32: stage heads at batch size 1 passed and is now {now}"])


def test_stage_that_is_missing_among_its_like_is_missed() -> None:
    other = stage("passed", batch_size=4)
    found = regressions(document(run(stage("passed"), other)), [run(other, stage("passed", "batch"))])
    assert found == ["chip fp32: stage heads at batch size 1 passed and is now not run"]


@pytest.mark.parametrize("before", ["failed", "expected-failure", "not-applicable"])
def test_stage_that_did_not_pass_may_be_anything(before: Outcome) -> None:
    for now in ("passed", "failed", "not-applicable"):
        assert regressions(document(run(stage(before))), [run(stage(now))]) == []


def test_what_was_not_asked_for_this_time_is_not_missed() -> None:
    more = (stage("passed", "speed"), stage("passed", batch_size=4), accuracy(0.9, 4))
    assert regressions(document(run(stage("passed"), *more)), [run(stage("passed"))]) == []


def test_devices_are_compared_each_with_itself() -> None:
    earlier = document(run(accuracy(0.9)), run(accuracy(0.3), device="other"))
    assert regressions(earlier, [run(accuracy(0.3), device="other"), run(accuracy(0.9))]) == []
    [found] = regressions(earlier, [run(accuracy(0.29), device="other"), run(accuracy(0.9))])
    assert found.startswith("other fp32: AP at batch size 1 fell from 0.3000 to 0.2900")


@pytest.mark.parametrize(
    ("model", "sha256", "device", "precision", "differing"),
    [
        ("dla", "ab" * 32, "chip", "fp32", "its model is 'tiny', this run's is 'dla'"),
        ("tiny", "cd" * 32, "chip", "fp32", "its data hash is abababababab, this run's is cdcdcdcdcdcd"),
        ("tiny", "ab" * 32, "gpu", "fp32", "its runs are chip fp32, this run's are gpu fp32"),
        ("tiny", "ab" * 32, "chip", "int8", "its runs are chip fp32, this run's are chip int8"),
    ],
)
def test_baseline_of_something_else_is_an_error(
    model: str, sha256: str, device: str, precision: str, differing: str
) -> None:
    earlier = document(run(stage("passed")))
    with pytest.raises(HarnessError, match="the baseline matches nothing of this run") as caught:
        check_matches(earlier, Path("old.json"), Gated(model, sha256, ((device, precision),), (1,)))
    assert differing in caught.value.cause
    assert (caught.value.file, caught.value.field) == ("old.json", "--baseline")
    both = (("gpu", "fp32"), ("chip", "fp32"))
    check_matches(earlier, Path("old.json"), Gated("tiny", "ab" * 32, both, (1, 4)))


@pytest.mark.parametrize("change", ["{", "7", '{"schema": 1}', '{"schema": 3, "runs": []}', "\x00"])
def test_file_that_is_no_results_document_is_named(tmp_path: Path, change: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(change)
    with pytest.raises(HarnessError, match="not a results document of schema 1 or 2") as caught:
        read_document(file)
    assert (caught.value.file, caught.value.field) == (str(file), "--baseline")
    assert caught.value.remedy == "make one with --results FILE"


@pytest.mark.parametrize(
    ("twice", "said"),
    [
        (lambda document: document["runs"].append(document["runs"][0]), "onnxruntime fp32 more than once"),
        (
            lambda document: document["runs"][0]["accuracy"].append(document["runs"][0]["accuracy"][0]),
            "onnxruntime fp32: AP at batch size 1 more than once",
        ),
        (lambda document: document.pop("schema"), "schema: Field required"),
        (lambda document: document.update(schema=True), "schema: Input should be 2"),
    ],
)
def test_document_that_says_a_thing_twice_or_not_what_it_is_holds_nothing(
    tmp_path: Path, twice: Change, said: str
) -> None:
    changed = json.loads(data_path("reports", "baselines", "embedded-onnxruntime.json").read_text())
    twice(changed)
    (tmp_path / "b.json").write_text(json.dumps(changed))
    with pytest.raises(HarnessError, match=said):
        read_document(tmp_path / "b.json")


def test_missing_baseline_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"none\.json: --baseline: cannot be read: No such file"):
        read_document(tmp_path / "none.json")


def test_document_reads_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    written = document(run(stage("passed"), accuracy(0.123456789)))
    file.write_text(json.dumps(to_json(written)))
    assert read_document(file) == written


@pytest.mark.parametrize("name", ["embedded-onnxruntime", "embedded-bm1684x-simulated-fp16"])
def test_documents_of_schema_1_are_read_as_they_were(name: str) -> None:
    file = data_path("reports", "baselines", f"{name}.json")
    old, read = json.loads(file.read_text()), read_document(file)
    assert (old["schema"], read.schema_, read.verdict, read.expected_failures) == (1, 2, old["verdict"], 0)
    for before, after in zip(old["runs"], read.runs, strict=True):
        assert [one["AP"] for one in before["accuracy"]] == [one.AP for one in after.accuracy]
        assert [one["outcome"] for one in before["stages"]] == [one.outcome for one in after.stages]
    runs = tuple((one.device, one.precision) for one in read.runs)
    check_matches(read, file, Gated(old["model"], old["data"]["sha256"], runs, (1, 4), "ab" * 32))
    assert regressions(read, list(read.runs)) == []


def test_expected_failures_of_schema_1_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    written = to_json(document(run(stage("expected-failure"), stage("passed", "accuracy"))))
    for part in (written, *written["runs"]):
        del part["expected_failures"]
    file.write_text(json.dumps({**written, "schema": 1}))
    assert (read_document(file).expected_failures, read_document(file).runs[0].expected_failures) == (1, 1)


def add_ap(text: dict[str, Any], points: float) -> None:
    text["runs"][0]["accuracy"][0]["AP"] += points


def test_gate_as_a_whole(suite: Suite, tmp_path: Path) -> None:
    """A device against its own earlier runs: as it was, worse than is allowed, and on other images."""
    checks, file = ("--device=right", "--batch-sizes=4", *CHECKS), tmp_path / "old.json"
    assert suite.run(*checks, results=file).status == 0
    earlier = json.loads(file.read_text())

    def gated(change: Change, *more: str) -> tuple[int, str, str]:
        changed = json.loads(json.dumps(earlier))
        change(changed)
        file.write_text(json.dumps(changed))
        ended = suite.run(*checks, *more, f"--baseline={file}")
        return ended.status, ended.result.verdict, "\n".join(ended.result.problems)

    assert gated(lambda same: None) == (0, "conforms", "")
    status, verdict, problem = gated(lambda earlier: add_ap(earlier, 0.0021))
    assert (status, verdict) == (1, "deviates")
    assert problem.startswith("right fp32: AP at batch size 4 fell from 0.6")
    status, verdict, problem = gated(lambda same: None, "--limit=3")
    assert (status, verdict) == (4, "error")
    assert f"{file}: --baseline: the baseline matches nothing of this run: its data hash is" in problem


def test_stage_that_was_green_and_is_red_is_said_to_have_been_green(suite: Suite, tmp_path: Path) -> None:
    file, checks = tmp_path / "old.json", ("--batch-sizes=1", *CHECKS)
    assert suite.run("--device=right", *checks, results=file).status == 0
    file.write_text(file.read_text().replace('"device": "right"', '"device": "swapped"'))
    ended = suite.run("--device=swapped", *checks, f"--baseline={file}")
    assert (ended.status, ended.result.verdict) == (1, "deviates")
    [fell, *problems] = sorted(ended.result.problems)
    assert fell.startswith("swapped fp32: AP at batch size 1 fell from 0.6")
    assert problems == [
        f"swapped fp32: stage {name} at batch size 1 passed and is now failed"
        for name in ("accuracy", "detections", "heads")
    ]
