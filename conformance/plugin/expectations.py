"""Holds what tests do to the expectations of their device, see `harness.checks.expectations`."""

import datetime
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from conformance.plugin.config import CONFIG
from conformance.plugin.fixtures import make_session, parameters_of
from conformance.plugin.recorder import PROPERTY, StageFailure, test_name
from harness.cards.expectations import Expectation
from harness.checks.expectations import CONVERSION, contradiction, entry_for, excused, excused_conversion, stale_entries
from harness.errors import DeviceEndedError, HarnessError
from harness.report.defect import Defect
from harness.report.records import Reported, Stage, Trouble, pack, unpack
from harness.run.training.options import TrainingOptions

STALE = "stale_expectations"
STALE_ENTRIES = pytest.StashKey[list[str]]()
"""Troubles, packed, of entries that have expired or match nothing."""


def expectation_of(item: pytest.Item) -> Expectation | None:
    """The entry that speaks of a test."""
    parameters = parameters_of(item)
    if "device_name" not in parameters:
        return None
    entries = _entries(item.config, parameters["device_name"])
    return entry_for(entries, test_name(item), item.config.stash[CONFIG].precision, parameters.get("batch_size"))


def _entries(config: pytest.Config, device: str) -> tuple[Expectation, ...]:
    return config.stash[CONFIG].expectations_of(make_session(config).device(device).card)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn an expected failure into one, and anything else that the entry did not say into a failure."""
    report = yield
    entry = expectation_of(item) if call.when == "call" else None
    if entry is None or not (report.passed or report.failed):
        return report
    error = None if call.excinfo is None else call.excinfo.value
    failed_in = _stage(error)
    if error is not None and failed_in is None:
        return report  # neither the device nor its toolchain said so: nothing excuses it
    text = contradiction(entry, failed_in, str(error))
    if text is not None and getattr(item.config.stash[CONFIG], "shard", None) is not None:
        return report  # what does not fail in one part of a run may fail in another: held when all are merged
    if text is not None:
        report.outcome, report.longrepr = "failed", text
        return report
    report.outcome = "skipped"
    report.wasxfail = f"{entry.reason} ({entry.place})"
    report.user_properties[:] = _excused(report.user_properties, entry)
    if failed_in == CONVERSION:
        report.user_properties.append((PROPERTY, pack(_refusal(item, entry))))
    return report


def _stage(error: BaseException | None) -> str | None:
    if isinstance(error, StageFailure):
        return error.stage
    refused = isinstance(error, HarnessError) and not isinstance(error, DeviceEndedError | Defect)
    return CONVERSION if refused else None


def _excused(properties: Iterable[tuple[str, object]], entry: Expectation) -> list[tuple[str, object]]:
    changed: list[tuple[str, object]] = []
    for name, value in properties:
        message = unpack(str(value)) if name == PROPERTY else None
        if isinstance(message, Reported) and isinstance(message.record, Stage):
            value = pack(message.model_copy(update={"record": excused(message.record, entry)}))
        changed.append((name, value))
    return changed


def _refusal(item: pytest.Item, entry: Expectation) -> Reported:
    parameters, precision = parameters_of(item), item.config.stash[CONFIG].precision
    record = excused_conversion(parameters.get("batch_size"), entry)
    return Reported(device=parameters["device_name"], precision=precision, test=test_name(item), record=record)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find the entries that match nothing, before any test is deselected."""
    options = config.stash[CONFIG]
    folder = "training" if isinstance(options, TrainingOptions) else "device"
    known = {path.name for path in (Path(__file__).parent.parent / folder).glob("test_*.py")}
    whole = not any("::" in argument for argument in config.args)  # else a module's other tests are not collected
    stale = []
    for name in options.devices:
        own = [item for item in items if parameters_of(item).get("device_name") == name]
        tests = [(test_name(item), parameters_of(item).get("batch_size")) for item in own]
        entries = _entries(config, name)
        texts = stale_entries(
            entries, tests, known if whole else None, options.precision, options.batch_sizes, datetime.date.today()
        )
        stale += [pack(Trouble(device=name, text=text, verdict="deviates")) for text in texts]
    if hasattr(config, "workeroutput"):
        config.workeroutput[STALE] = stale
    config.stash[STALE_ENTRIES] = stale


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
    """Take the entries that a process of pytest-xdist found, when it has ended."""
    if STALE in getattr(node, "workeroutput", {}):  # one that crashed has none
        node.config.stash[STALE_ENTRIES] = node.workeroutput[STALE]
