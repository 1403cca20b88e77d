"""An expectation excuses a failure in its own stage; an entry that does not hold is told with its place."""

import datetime
from collections.abc import Sequence

import pytest

from conformance.support.example_records import stage
from harness.cards.expectations import Expectation
from harness.checks.expectations import contradiction, entry_for, excused, excused_conversion, stale_entries

HEADS = "test_heads.py::test_heads"
MODULES = ("test_heads.py", "test_perf.py")
TODAY = datetime.date(2026, 1, 1)


def entry(test: str = HEADS, batch_size: int | None = None, until: str = "2026-01-01") -> Expectation:
    return Expectation(
        test=test, stage="heads", precision="fp32", batch_size=batch_size, reason="rounds up", source="ticket 1",
        since="0.1.0", until=until, file="chip.expectations.toml", line=3,
    )  # fmt: skip


def test_failure_in_the_stated_stage_only_is_as_expected() -> None:
    assert contradiction(entry(), "heads", "far off") is None
    text = contradiction(entry(), "accuracy", "far off")
    assert text is not None
    assert text.startswith("far off\n\nexpected to fail in stage 'heads', and fails in stage 'accuracy'")
    assert text.endswith("remedy: change 'stage' of the entry at chip.expectations.toml:3")
    text = contradiction(entry(), None)
    assert text == "unexpected pass: rounds up\n  remedy: remove the entry at chip.expectations.toml:3"


def test_only_a_failure_is_excused() -> None:
    found = excused(stage("failed"), entry())
    assert (found.outcome, found.detail, found.comparisons) == ("expected-failure", "rounds up", 1)
    assert excused(stage("undecided"), entry()) == stage("undecided")
    refused = excused_conversion(4, entry())
    assert (refused.name, refused.batch_size, refused.outcome) == ("conversion", 4, "expected-failure")


def test_first_entry_that_speaks_of_a_test_holds() -> None:
    entries = (entry(batch_size=4), entry("test_heads.py::*"))
    assert [entry_for(entries, HEADS, "fp32", size) for size in (4, 1)] == list(entries)
    assert entry_for(entries, HEADS, "fp16", 1) is None


@pytest.mark.parametrize(
    ("one", "modules", "expected"),
    [
        (entry(), MODULES, []),
        (entry("test_heads.py::test_head"), MODULES, ["matches no test: correct 'test', or remove the entry"]),
        (entry(batch_size=1), MODULES, ["matches no test: correct 'test', or remove the entry"]),
        (entry("test_heads.py::test_head"), None, []),
        (entry("test_perf.py::test_fps"), MODULES, []),
        (entry(batch_size=8), MODULES, []),
        (entry(until="2025-12-31"), None, ["expired on 2025-12-31: check it, then renew 'until' or remove the entry"]),
    ],
)
def test_entry_that_does_not_hold_is_told(one: Expectation, modules: Sequence[str] | None, expected: list[str]) -> None:
    """Of tests of heads at batch size 4 in a run at 1 and 4; those of speed were not collected."""
    found = stale_entries([one], [(HEADS, 4)], modules, "fp32", (1, 4), TODAY)
    assert found == [f"chip.expectations.toml:3: {text}" for text in expected]
