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
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from conformance.plugin.config import CONFIG
from conformance.plugin.fixtures import make_bench
from conformance.plugin.recorder import PROPERTY, StageFailure
from harness.cards.expectations import Expectation
from harness.errors import HarnessError
from harness.report.records import Reported, Stage, pack, unpack

CONVERSION = "conversion"
STALE = "stale_expectations"


def test_name(item: pytest.Item) -> str:
    """``module.py::test_name``, which the entries match."""
    return f"{item.path.name}::{getattr(item, 'originalname', item.name)}"


def expectation_of(item: pytest.Item) -> Expectation | None:
    """The entry that speaks of a test."""
    parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    if "device_name" not in parameters:
        return None
    config = item.config.stash[CONFIG]
    entries = make_bench(item.config).device(parameters["device_name"]).card.expectations
    name, size = test_name(item), parameters.get("batch_size")
    return next((entry for entry in entries if entry.matches(name, config.precision, size)), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn an expected failure into one, and anything else that the entry did not say into a failure."""
    report = yield
    entry = expectation_of(item) if call.when == "call" else None
    if entry is None:
        return report
    if report.passed:
        report.outcome = "failed"
        report.longrepr = f"unexpected pass: {entry.reason}\n  remedy: remove the entry at {entry.place}"
    elif report.failed and call.excinfo is not None:
        stage = _stage(call.excinfo.value)
        if stage == entry.stage:
            report.outcome = "skipped"
            report.wasxfail = f"{entry.reason} ({entry.place})"
            report.user_properties[:] = _excused(report.user_properties, entry)
        elif stage is not None:
            report.longrepr = (
                f"{call.excinfo.value}\n\nexpected to fail in stage '{entry.stage}', and fails in stage '{stage}'\n"
                f"  remedy: change 'stage' of the entry at {entry.place}"
            )
    return report


def _stage(error: BaseException) -> str | None:
    if isinstance(error, StageFailure):
        return error.stage
    return CONVERSION if isinstance(error, HarnessError) else None


def _excused(properties: Iterable[tuple[str, object]], entry: Expectation) -> list[tuple[str, object]]:
    changed: list[tuple[str, object]] = []
    for name, value in properties:
        message = unpack(str(value)) if name == PROPERTY else None
        if isinstance(message, Reported) and isinstance(message.record, Stage) and message.record.outcome == "failed":
            stage = message.record.model_copy(update={"outcome": "expected-failure", "detail": entry.reason})
            value = pack(message.model_copy(update={"record": stage}))
        changed.append((name, value))
    return changed


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find the entries that match nothing, before any test is deselected."""
    suite = config.stash[CONFIG]
    modules = {item.path.name for item in items}
    known = {path.name for path in (Path(__file__).parent.parent / "device").glob("test_*.py")}
    sizes = {None, *suite.batch_sizes}
    whole = not any("::" in argument for argument in config.args)  # else a module's other tests are not collected
    stale = []
    for name in suite.devices:
        for entry in make_bench(config).device(name).card.expectations:
            meant = set(fnmatch.filter(known, entry.test.partition("::")[0]))
            asked = entry.precision == suite.precision and entry.batch_size in sizes and whole
            if entry.expired(datetime.date.today()):
                stale.append(
                    f"{entry.place}: expired on {entry.until}: check it, then renew 'until' or remove the entry"
                )
            elif asked and meant <= modules:
                names = {test_name(item) for item in items if expectation_of(item) == entry}
                if not names:
                    stale.append(f"{entry.place}: matches no test: correct 'test', or remove the entry")
    if hasattr(config, "workeroutput"):
        config.workeroutput[STALE] = stale
    config.stash[STALE_ENTRIES] = stale


STALE_ENTRIES = pytest.StashKey[list[str]]()


class ForXdist:
    """Brings what pytest-xdist's processes found to the controller."""

    def pytest_testnodedown(self, node: Any, error: object) -> None:  # noqa: ANN401 - pytest-xdist has no types
        """Called by pytest-xdist when a process has ended."""
        del error
        node.config.stash[STALE_ENTRIES] = node.workeroutput.get(STALE, []) if hasattr(node, "workeroutput") else []


def pytest_configure(config: pytest.Config) -> None:
    """Register with pytest-xdist where it is in use."""
    if config.option.numprocesses:
        config.pluginmanager.register(ForXdist())
