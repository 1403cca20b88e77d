"""The run as a whole: header, verdict, results document, gate, exit status."""

from collections.abc import Generator
from pathlib import Path

import pytest

from conformance.plugin.config import CONFIG, asks_for_a_device, options_of
from conformance.plugin.expectations import STALE_ENTRIES
from conformance.plugin.fixtures import make_session, parameters_of
from conformance.plugin.recorder import PROPERTY, StageFailure
from conformance.plugin.selection import check_expression
from harness.checks.verdict import EXIT_STATUS, Circumstances
from harness.errors import HarnessError
from harness.report.records import Document, Message, Reported, Stage, Trouble, pack, unpack
from harness.report.terminal import TITLE, summary
from harness.run.conclude import INTERRUPTED, conclude, header, prepare, refuse, write

TROUBLE = "centernet_conformance_trouble"
UNFINISHED = {
    pytest.ExitCode.INTERRUPTED: INTERRUPTED,
    pytest.ExitCode.INTERNAL_ERROR: "pytest itself failed: not every test was run",
    pytest.ExitCode.USAGE_ERROR: "the tests that were asked for could not be collected",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no test was selected: nothing was checked",
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run with exit status 4, and a document that says so."""
    try:
        check_expression(config)
        config.stash[CONFIG] = options_of(config)
    except HarnessError as error:
        _abort(config, error)
    config.stash[STALE_ENTRIES] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RunReport(config))


def _abort(config: pytest.Config, error: HarnessError) -> None:
    if not hasattr(config, "workerinput"):
        model = config.stash[CONFIG].card.name if CONFIG in config.stash else config.option.model
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
        trouble = Trouble(device=device, text=text, error=isinstance(error, HarnessError))
        report.user_properties.append((TROUBLE, pack(trouble)))
    return report


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
        self.failed = False
        self.document: Document | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Check that all that was asked for is there, before any test runs."""
        try:
            session = make_session(self.config)
            if self.config.option.collectonly:
                session.check_devices()
            else:
                prepare(session)
        except HarnessError as error:
            _abort(self.config, error)

    def pytest_report_header(self) -> list[str]:
        """Name device, model, data set and versions."""
        return [] if self.config.option.collectonly else header(make_session(self.config))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of a test."""
        # What a test reports itself stands in the reports of its later phases, too.
        wanted = (PROPERTY, TROUBLE) if report.when == "call" else (TROUBLE,)
        found = [unpack(str(value)) for name, value in report.user_properties if name in wanted]
        self.messages += found
        self.failed |= report.failed and not any(_is_undecided(message) for message in found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Come to a verdict, write the document, and set the exit status."""
        if self.config.option.collectonly:
            return
        found = self._document(exitstatus)
        document = write(found, self.options.results)
        finished, unwritten = exitstatus in (0, 1, 5), document is not found
        asked = self.messages or asks_for_a_device(self.config) or document.verdict in ("deviates", "error")
        if asked or not finished:
            self.document = document
        if unwritten or (asked and finished):
            session.exitstatus = EXIT_STATUS[document.verdict]

    def _document(self, exitstatus: int) -> Document:
        interrupted = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        around = Circumstances(error=exitstatus in (4, 5), failed=self.failed, interrupted=interrupted)
        unfinished = UNFINISHED[pytest.ExitCode(exitstatus)] if exitstatus in UNFINISHED else None
        stale = self.config.stash[STALE_ENTRIES]
        return conclude(make_session(self.config), self.messages, stale, unfinished, around)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Close with the table and the verdict."""
        if self.document is not None:
            terminalreporter.section(TITLE)
            for line in summary(self.document):
                markup = {} if line.colour is None else {line.colour: True}
                terminalreporter.write_line(line.text, bold=line.bold, **markup)
        elif not self.config.option.collectonly:
            terminalreporter.write_line("no device was checked: these tests are of the suite itself")


def _is_undecided(message: Message) -> bool:
    """Tell whether a test failed for want of evidence, not because something deviates."""
    return isinstance(message, Reported) and isinstance(message.record, Stage) and message.record.outcome == "undecided"
