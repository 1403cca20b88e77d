"""An expectation excuses exactly what it states: its truth table, row by row."""

import datetime
from pathlib import Path

import pytest

from conformance.support.suite import CHECKS, Ended, Suite
from conformance.support.vendor import ENTRY, HEADS, KNOWN, SOON, line_of
from harness.cards.expectations import MOST_DAYS, load_expectations, read_expectations, require_soon
from harness.errors import HarnessError
from harness.report.escape import printable_lines

ONLY_HEADS = "conformance/device/test_heads.py::test_device_heads_equal_reference"
ONE = ENTRY.format(test=HEADS, stage="heads", until=SOON) + "\n"


@pytest.fixture(scope="session")
def unexpected(suite: Suite) -> Ended:
    """Every row of the table that fails, a device each."""
    return suite.run_once(
        "unexpected", "--device=elsewhere,cured,stray,expired", "--batch-sizes=1", suite.known, *CHECKS
    )


def problem(ended: Ended, device: str) -> str:
    """The problem of a device's entry, as document and terminal have it."""
    place = line_of(device)
    [found] = [text for text in ended.result.problems if place in text]
    assert printable_lines(found) in ended.output
    return found


def test_known_failure_in_the_stated_stage_is_no_failure(suite: Suite) -> None:
    ended = suite.run("--device=excused", suite.known, *CHECKS)
    assert (ended.status, ended.result.verdict, ended.result.problems) == (0, "conforms", ())
    for size in (1, 4):
        outcomes = ended.outcomes("excused", size)
        expected = {stage for stage, outcome in outcomes.items() if outcome == "expected-failure"}
        assert expected == {"heads", "detections", "accuracy"}
        assert "failed" not in outcomes.values()
        assert ended.stage("excused", "heads", size).detail == "the vendor's compiler exchanges width and height"
    assert "6 xfailed" in ended.output
    said = "excused in accuracy, detections and heads at batch sizes 1 and 4"
    assert f"verdict: conforms, with 6 expected failures: {said}\n" in ended.output
    assert line_of("excused") in ended.output


def test_failures_that_the_author_of_a_device_lists_are_proposals(suite: Suite) -> None:
    ended = suite.run("--device=excused", "--batch-sizes=1", *CHECKS)
    assert (ended.status, ended.result.verdict, ended.result.expected_failures) == (1, "deviates", 0)
    file = suite.tiny.vendor / "excused.expectations.toml"
    line = f"expectations: {file}: 3 proposed by the author of excused and not in force; "
    assert f"{line}to put them in force: --expectations {file}\n" in ended.output
    refused = suite.run("--device=excused", f"--expectations={file}", *CHECKS)
    assert (refused.status, refused.result.verdict) == (4, "error")
    [problem] = refused.result.problems
    assert problem.startswith(
        f"{file}: expectation.0.until: 9999-12-31 is more than 366 days ahead\n  remedy: give a day"
    )


def test_failure_in_another_stage_than_stated_is_one(unexpected: Ended) -> None:
    text = problem(unexpected, "elsewhere")
    assert "expected to fail in stage 'detections', and fails in stage 'heads'" in text
    assert "head wh: measured" in text
    assert "remedy: change 'stage' of the entry at" in text
    assert unexpected.stage("elsewhere", "heads", 1).outcome == "failed"
    assert unexpected.run_of("elsewhere").verdict == "deviates"


def test_unexpected_pass_is_a_failure(unexpected: Ended) -> None:
    text = problem(unexpected, "cured")
    assert "unexpected pass: the vendor's compiler" in text
    assert "remedy: remove the entry at" in text
    assert unexpected.run_of("cured").verdict == "deviates"


def test_entry_that_matches_nothing_is_a_failure(unexpected: Ended) -> None:
    assert problem(unexpected, "stray").endswith("matches no test: correct 'test', or remove the entry")


def test_expired_entry_is_a_failure(unexpected: Ended) -> None:
    assert "expired on 2020-02-02: check it, then renew 'until' or remove" in problem(unexpected, "expired")


def test_any_of_them_keeps_the_run_from_conforming(unexpected: Ended) -> None:
    assert (unexpected.status, unexpected.result.verdict) == (1, "deviates")
    assert len(unexpected.result.problems) == 4
    assert all(run.verdict != "conforms" for run in unexpected.result.runs)


@pytest.mark.parametrize("device", ["stray", "expired"])
def test_entry_that_does_not_hold_fails_also_where_all_else_is_right(suite: Suite, device: str) -> None:
    ended = suite.run(f"--device={device}", "--batch-sizes=1", suite.known, "conformance/device/test_heads.py")
    assert (ended.status, ended.result.verdict) == (1, "deviates")
    assert problem(ended, device)


def test_refusal_of_the_toolchain_is_stage_conversion(suite: Suite) -> None:
    ended = suite.run("--device=late", "--batch-sizes=1", suite.known, ONLY_HEADS)
    assert (ended.status, ended.result.verdict, ended.run_of("late").verdict) == (4, "error", "error")
    text = problem(ended, "late")
    assert "the compiler knows no ConvTranspose\n  remedy: wait for version 2" in text
    assert "expected to fail in stage 'heads', and fails in stage 'conversion'" in text


def test_part_of_a_module_calls_no_entry_stale(suite: Suite) -> None:
    contract = "conformance/device/test_conversion.py"
    ended = suite.run("--device=excused", "--batch-sizes=1", suite.known, ONLY_HEADS, contract)
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert ended.result.problems == ("excused: not run: batch, detections and accuracy at batch size 1",)


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        (("stage =", "stages ="), "expectation.1.stages", "did you mean 'stage'?"),
        ((f'until = "{SOON}"', 'until = "soon"'), "expectation.1", "correct the card"),
        (('reason = "the', 'reason = ""\n# "the'), "expectation.1.reason", "correct the card"),
        (('precision = "fp32"', "precision = 32"), "expectation.1.precision", "correct the card"),
    ],
)
def test_wrong_entry_is_named(tmp_path: Path, change: tuple[str, str], field: str, remedy: str) -> None:
    file = tmp_path / "chip.expectations.toml"
    file.write_text(ONE + ONE.replace(*change))
    with pytest.raises(HarnessError) as caught:
        load_expectations(tmp_path / "chip.toml")
    assert (caught.value.file, caught.value.field, caught.value.remedy) == (str(file), field, remedy)


def test_entries_know_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "chip.expectations.toml"
    file.write_text(f"# [[expectation]]\n\n{ONE}   {ONE}")
    entries = load_expectations(tmp_path / "chip.toml")
    lines = file.read_text().splitlines()
    assert [lines[entry.line - 1].strip() for entry in entries] == ["[[expectation]]"] * 2
    assert [entry.place for entry in entries] == [f"{file}:3", f"{file}:12"]


def test_entry_comes_up_for_review_within_a_year(tmp_path: Path) -> None:
    file, today = tmp_path / KNOWN, datetime.date(2026, 3, 1)
    for days in (-400, 0, MOST_DAYS):
        file.write_text(ENTRY.format(test=HEADS, stage="heads", until=today + datetime.timedelta(days)))
        assert require_soon(read_expectations(file), today) == read_expectations(file)
    file.write_text(ENTRY.format(test=HEADS, stage="heads", until=today + datetime.timedelta(MOST_DAYS + 1)))
    with pytest.raises(HarnessError, match="2027-03-03 is more than 366 days ahead") as caught:
        require_soon(read_expectations(file), today)
    assert (caught.value.file, caught.value.field) == (str(file), "expectation.0.until")
    assert caught.value.remedy == "give a day up to 2027-03-02, and look at the failure again until then"


def test_device_without_a_file_has_no_expectations(tmp_path: Path) -> None:
    assert load_expectations(tmp_path / "chip.toml") == ()
