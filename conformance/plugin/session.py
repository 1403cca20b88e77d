"""The run as a whole: header, verdict, results document, gate, exit status."""

from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conformance.plugin.config import CONFIG, asks_for_a_device, model_of, options_of, take_stated
from conformance.plugin.entry import is_own
from conformance.plugin.expectations import STALE_ENTRIES
from conformance.plugin.fixtures import make_session, parameters_of
from conformance.plugin.recorder import PROPERTY, StageFailure
from conformance.plugin.selection import NAMED_PERF, check_expression
from harness.checks.owed import groups_of
from harness.checks.verdict import EXIT_STATUS, verdict_of_exception
from harness.errors import HarnessError
from harness.report.escape import printable
from harness.report.reasons import reasons
from harness.report.records import AGAINST, Document, Message, Reported, Stage, Trouble, Verdict, pack, unpack
from harness.report.terminal import TITLE, summary
from harness.run.conclude import INTERRUPTED, RunDocument, header, refuse
from harness.run.options import CheckOptions
from harness.run.session import Session
from harness.run.signals import Received, received_signals
from harness.run.training.session import TrainingSession, training_header

TROUBLE = "centernet_conformance_trouble"
UNCOLLECTED = "the tests that were asked for could not be collected"
ENDED_BY: dict[int, str] = {
    pytest.ExitCode.INTERNAL_ERROR: "pytest itself failed: not every test was run",
    pytest.ExitCode.USAGE_ERROR: UNCOLLECTED,
    pytest.ExitCode.NO_TESTS_COLLECTED: "no test was selected: nothing was checked",
}
"""Error of a run that pytest ends with this status."""
ENDED_EARLY = "the run was ended early: not every test was run"
WITH_CLOSING_LINES = (0, 1, 2, 4, 5)
"""Exit statuses with which pytest calls the hook of the closing lines."""
RECEIVED = pytest.StashKey[Received]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run with exit status 4, and a document that says so."""
    try:
        check_expression(config)
        take_stated(config)
        config.stash[CONFIG] = options_of(config)
    except HarnessError as error:
        _abort(config, error)
    config.stash[STALE_ENTRIES] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RunReport(config))
        signals = ExitStack()
        config.stash[RECEIVED] = signals.enter_context(received_signals())
        config.add_cleanup(signals.close)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, int | None, int | None]:
    """End with the status that shells give to a signal, where one ended the run."""
    status = yield
    received = config.stash.get(RECEIVED, None)
    return status if received is None or received.status is None else received.status


def _abort(config: pytest.Config, error: HarnessError) -> None:
    if not hasattr(config, "workerinput"):
        model = model_of(config)
        results = config.option.results
        error = refuse(model, error, None if results is None else Path(results))
    raise pytest.UsageError(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the suite's own exceptions say, without a traceback; keep what no stage tells of for the document."""
    report = yield
    if not report.failed:
        return report
    error = None if call.excinfo is None else call.excinfo.value
    told = isinstance(report.longrepr, str)  # by the expectations, with the line to change
    if isinstance(error, HarnessError | StageFailure) and not told:
        report.longrepr = str(error)
    if told or not isinstance(error, StageFailure):
        text = str(report.longrepr)
        if not isinstance(error, HarnessError):
            crash = getattr(report.longrepr, "reprcrash", None)
            text = f"{_place(item)}: {text if crash is None else crash.message.splitlines()[0]}"
        device = parameters_of(item).get("device_name")
        trouble = Trouble(device=device, text=text, verdict=_verdict(error, told or device is None))
        report.user_properties.append((TROUBLE, pack(trouble)))
    return report


def _verdict(error: BaseException | None, deviates: bool) -> Verdict:
    """The verdict where a test failed by no stage: an exception, or what contradicts an expectation or the suite."""
    return "deviates" if deviates and not isinstance(error, HarnessError) else verdict_of_exception(error)


def _place(item: pytest.Item) -> str:
    """Name of a test in the document: of one that judges a device the same wherever the suite lies."""
    return f"{item.path.name}::{item.name}" if "device_name" in parameters_of(item) else item.nodeid


class RunReport:
    """Collects what the tests report, in one process or from many, and closes the run.

    Args:
        config: Of the process that the user started.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = config.stash[CONFIG]
        self.messages: list[Message] = []
        self.results: RunDocument | None = None
        self.groups: frozenset[str] | None = None
        self.uncollected: list[str] = []
        self.document: Document | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Check that all that was asked for is there, before any test runs."""
        try:
            session = make_session(self.config)
            if self.config.option.collectonly:
                session.check_devices()
            else:
                self.results = RunDocument(session)
                self.results.begin()
        except HarnessError as error:
            _abort(self.config, error)

    def pytest_report_header(self) -> list[str]:
        """Name device, model, data set and versions."""
        if self.results is None:
            return []
        session, baseline = make_session(self.config), self.results.baseline
        return training_header(session, baseline) if isinstance(session, TrainingSession) else header(session, baseline)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what cannot be collected."""
        if report.failed:
            self.uncollected.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which tests of devices were selected, where this process collects them."""
        self._owe(groups_of(_test_of(item.nodeid) for item in session.items if is_own(item.path)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note which tests of devices were selected, where a process of pytest-xdist collects them."""
        self._owe(groups_of(map(_test_of, ids)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
        """Owe the tests of speed where ``-m`` names them and the processes leave them out."""
        if getattr(node, "workeroutput", {}).get(NAMED_PERF):
            self._owe({"perf"})

    def _owe(self, groups: Collection[str]) -> None:
        if isinstance(self.options, CheckOptions) and self.options.against is not None and groups:
            groups = {*groups, AGAINST}  # a gate that was asked for is owed, whatever deselects its test
        if self.results is not None and (self.groups is None or not self.groups.issuperset(groups)):
            self.groups = (self.groups or frozenset()) | frozenset(groups)
            self.results.owe(self.groups)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of a test."""
        # What a test reports itself stands in the reports of its later phases, too.
        wanted = (PROPERTY, TROUBLE) if report.when == "call" else (TROUBLE,)
        found = [unpack(str(value)) for name, value in report.user_properties if name in wanted]
        self.messages += found
        if report.failed and not any(map(_explains_failure, found)):
            self.messages.append(self._unexplained(report))

    def _unexplained(self, report: pytest.TestReport) -> Trouble:
        """The trouble of a test that failed by something else than itself, such as a process that ended."""
        device = next((name for name in self.options.devices if f"[{name}-batch" in report.nodeid), None)
        said = report.longreprtext.strip().splitlines() or ["failed"]
        return Trouble(device=device, text=f"{_test_of(report.nodeid, keep=True)}: {said[-1]}", verdict="incomplete")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """Come to a verdict, write the document, and set the exit status, which no other plug-in then changes."""
        if self.results is not None and (self.groups or asks_for_a_device(self.config)):
            stale = [unpack(text) for text in self.config.stash[STALE_ENTRIES]]
            self.document = self.results.close([*self.messages, *stale, *self._ended(exitstatus)])
        if self.results is not None:
            self._finish()
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        self._add_to_junit()
        if terminal is not None and exitstatus not in WITH_CLOSING_LINES:
            self.pytest_terminal_summary(terminal)
        yield
        if self.document is not None:
            session.exitstatus = EXIT_STATUS[self.document.verdict]

    def _finish(self) -> None:
        """Let nothing go on with a run that no signal ended."""
        session = make_session(self.config)
        if isinstance(session, Session) and session.store is not None and self.config.stash[RECEIVED].number is None:
            session.store.finish()

    def _add_to_junit(self) -> None:
        """Give the suite in the file of ``--junitxml`` the verdict and why; its tests have the failures."""
        plugins = self.config.pluginmanager.get_plugins()
        junit = next((one for one in plugins if hasattr(one, "add_global_property")), None)
        if junit is not None and self.document is not None:
            junit.add_global_property("verdict", self.document.verdict)
            for reason in reasons(self.document):
                junit.add_global_property("reason", printable(reason))

    def _ended(self, exitstatus: int) -> list[Trouble]:
        """The troubles of a run that did not come to its end."""
        found = list[tuple[str, Verdict]]()
        if self.config.stash[RECEIVED].number is not None:
            found.append((INTERRUPTED, "incomplete"))
        elif self.uncollected:
            found.append((f"{UNCOLLECTED}: {', '.join(self.uncollected)}", "error"))
        elif exitstatus in ENDED_BY:
            found.append((ENDED_BY[exitstatus], "error"))
        elif exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            found.append((ENDED_EARLY, "incomplete"))
        return [Trouble(device=None, text=text, verdict=verdict) for text, verdict in found]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Close with the table and the verdict."""
        if self.document is not None:
            terminalreporter.section(TITLE)
            for line in summary(self.document):
                markup = {} if line.colour is None else {line.colour: True}
                terminalreporter.write_line(line.text, bold=line.bold, **markup)
        elif not self.config.option.collectonly:
            terminalreporter.write_line("no device was checked: these tests are of the suite itself")


def _test_of(node_id: str, *, keep: bool = False) -> str:
    """``…/module.py::test_name[device-batchN]`` -> ``module.py::test_name``, or with `keep` the brackets as well."""
    path, *parameters = node_id.partition("[")
    name = path.rpartition("/")[2]
    return "".join([name, *parameters]) if keep else name


def _explains_failure(message: Message) -> bool:
    """Tell whether a message says why its test failed."""
    if isinstance(message, Reported):
        return isinstance(message.record, Stage) and message.record.outcome in ("failed", "undecided")
    return isinstance(message, Trouble)
