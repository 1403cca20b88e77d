"""Known failures: what is expected to fail must fail, in the stage that is stated, and nothing else is excused.

| the entry says  | the test           | report                                      |
| --------------- | ------------------ | ------------------------------------------- |
| fails in A      | fails in A         | expected failure                            |
| fails in A      | fails in B         | failure: change the entry's stage           |
| fails in A      | passes             | failure: remove the entry                   |
| anything        | is not there       | failure: the entry matches nothing          |
| expired         | whatever           | failure: look at it again                   |
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Collection, Iterable, Sequence

from harness.cards.expectations import Expectation
from harness.report.records import Stage

CONVERSION = "conversion"
"""Stage in which a test fails where the device or its toolchain refuses the model."""


def entry_for(entries: Iterable[Expectation], test: str, precision: str, batch_size: int | None) -> Expectation | None:
    """The first entry that speaks of ``module.py::test_name`` at this precision and batch size."""
    return next((entry for entry in entries if entry.matches(test, precision, batch_size)), None)


def contradiction(entry: Expectation, failed_in: str | None, text: str = "") -> str | None:
    """Hold what a test did to its entry.

    Args:
        entry: The entry that speaks of the test.
        failed_in: The stage in which the test failed; None where it passed.
        text: What the failure says.

    Returns:
        The message of a failure; None where the test failed as the entry says.
    """
    if failed_in is None:
        return f"unexpected pass: {entry.reason}\n  remedy: remove the entry at {entry.place}"
    if failed_in == entry.stage:
        return None
    return (
        f"{text}\n\nexpected to fail in stage '{entry.stage}', and fails in stage '{failed_in}'\n"
        f"  remedy: change 'stage' of the entry at {entry.place}"
    )


def excused(stage: Stage, entry: Expectation) -> Stage:
    """A stage that failed as an entry says; a stage that did not fail stays as it is."""
    if stage.outcome != "failed":
        return stage
    return stage.model_copy(update={"outcome": "expected-failure", "detail": entry.reason})


def excused_conversion(batch_size: int | None, entry: Expectation) -> Stage:
    """A refusal of the model that an entry says, for which no stage was recorded."""
    return Stage(
        name=CONVERSION,
        batch_size=batch_size,
        outcome="expected-failure",
        measured=None,
        allowed=None,
        comparisons=0,
        detail=entry.reason,
    )


def stale_entries(
    entries: Sequence[Expectation],
    tests: Collection[tuple[str, int | None]],
    known_modules: Collection[str] | None,
    precision: str,
    batch_sizes: Collection[int],
    today: datetime.date,
) -> list[str]:
    """Messages about the entries of a device that have expired or that match no test.

    Args:
        entries: Of the device.
        tests: ``module.py::test_name`` and batch size of each test that there is.
        known_modules: Names of the modules with tests of devices. An entry that could speak of a module of which there
            is no test here is not said to match nothing. None where tests of a module are left out: then no entry is.
        precision: Of the run.
        batch_sizes: Of the run.
        today: Entries whose last day lies before have expired.
    """
    modules = {test.partition("::")[0] for test, _ in tests}
    matched = [entry_for(entries, test, precision, size) for test, size in tests]
    found = []
    for entry in entries:
        asked = entry.precision == precision and entry.batch_size in (None, *batch_sizes)
        if entry.expired(today):
            found.append(f"{entry.place}: expired on {entry.until}: check it, then renew 'until' or remove the entry")
        elif known_modules is None or not asked or entry in matched:
            continue
        elif modules.issuperset(fnmatch.filter(known_modules, entry.test.partition("::")[0])):
            found.append(f"{entry.place}: matches no test: correct 'test', or remove the entry")
    return found
