"""The run as a whole: header, verdict, results document, gate, exit status."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from conformance.plugin.config import CONFIG, SuiteConfig
from conformance.plugin.expectations import STALE_ENTRIES
from conformance.plugin.fixtures import make_bench
from conformance.plugin.recorder import PROPERTY, StageFailure
from conformance.plugin.selection import check_expression
from conformance.plugin.summary import print_summary
from harness.errors import HarnessError
from harness.report.baseline import check_matches, read_document, regressions
from harness.report.document import make_document, make_runs, write_document
from harness.report.environment import environment
from harness.report.records import Document, Message, Reported, Stage, Trouble, Verdict, pack, unpack

TROUBLE = "centernet_conformance_trouble"
EXIT_STATUS: dict[Verdict, int] = {"conforms": 0, "deviates": 1, "undecided": 1, "error": 4}
UNFINISHED = {
    pytest.ExitCode.INTERRUPTED: "the run was interrupted: not every test was run",
    pytest.ExitCode.INTERNAL_ERROR: "pytest itself failed: not every test was run",
    pytest.ExitCode.USAGE_ERROR: "the tests that were asked for could not be collected",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no test was selected: nothing was checked",
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; a wrong one ends the run with exit status 4, and a document that says so."""
    try:
        check_expression(config)
        config.stash[CONFIG] = SuiteConfig.from_pytest_config(config)
    except HarnessError as error:
        _abort(config, str(error))
    config.stash[STALE_ENTRIES] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RunReport(config))


def _abort(config: pytest.Config, problem: str) -> None:
    if config.option.results is not None and not hasattr(config, "workerinput"):
        model = config.stash[CONFIG].card.name if CONFIG in config.stash else config.option.model
        document = make_document(model, None, environment(), [], [problem], error=True, failed=False)
        try:
            write_document(document, Path(config.option.results))
        except HarnessError as error:
            problem = f"{problem}\n{error}"
    raise pytest.UsageError(problem)


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
            text = f"{report.nodeid}: {text if crash is None else crash.message.splitlines()[0]}"
        device = item.callspec.params.get("device_name") if hasattr(item, "callspec") else None
        trouble = Trouble(device=device, text=text, error=isinstance(error, HarnessError))
        report.user_properties.append((TROUBLE, pack(trouble)))
    return report


class RunReport:
    """Collects what the tests report, in one process or from many, and closes the run.

    Args:
        config: Of the process that the user started.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.suite = config.stash[CONFIG]
        self.messages: list[Message] = []
        self.failed = False
        self.document: Document | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Check that all that was asked for is there, before any test runs."""
        try:
            bench = make_bench(self.config)
            if self.config.option.collectonly:
                bench.check_devices()
                return
            bench.check()
            if self.suite.baseline is not None:
                runs = [(name, self.suite.precision) for name in self.suite.devices]
                earlier = read_document(self.suite.baseline)
                check_matches(earlier, self.suite.baseline, self.suite.card.name, bench.data.sha256, runs)
        except HarnessError as error:
            _abort(self.config, str(error))

    def pytest_report_header(self) -> list[str]:
        """Name device, model, data set and versions."""
        if self.config.option.collectonly:
            return []
        suite, bench = self.suite, make_bench(self.config)
        cards = [bench.device(name).card for name in suite.devices]
        what = "weights" if bench.subject.module is not None else "ONNX"
        sizes = ", ".join(map(str, suite.batch_sizes))
        return [
            *(f"device: {card.name} ({card.execution}): {card.description}" for card in cards),
            f"model: {suite.card.name}: {suite.card.description}",
            f"model: {what} sha256 {bench.subject.sha256[:12]}, precision {suite.precision}, batch sizes {sizes}",
            f"data: {bench.data.name}, {bench.data.images} images, sha256 {bench.data.sha256[:12]}",
            "versions: " + ", ".join(f"{name} {version}" for name, version in environment().items()),
        ]

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
        document = self._document(exitstatus)
        finished = exitstatus in (0, 1, 5)
        if self.messages or self.suite.explicit or document.verdict in ("deviates", "error") or not finished:
            self.document = document
            if finished:
                session.exitstatus = EXIT_STATUS[document.verdict]
        if self.suite.results is not None:
            try:
                write_document(document, self.suite.results)
            except HarnessError as error:
                problems = (*document.problems, str(error))
                self.document = document.model_copy(update={"problems": problems, "verdict": "error"})
                session.exitstatus = EXIT_STATUS["error"]

    def _document(self, exitstatus: int) -> Document:
        bench, suite = make_bench(self.config), self.suite
        troubles = [message for message in self.messages if isinstance(message, Trouble)]
        stale = self.config.stash[STALE_ENTRIES]
        problems = list(dict.fromkeys([*(trouble.text for trouble in troubles), *stale]))
        problems += [UNFINISHED[pytest.ExitCode(exitstatus)]] if exitstatus in UNFINISHED else []
        cards = [bench.device(name).card for name in suite.devices]
        runs = make_runs(cards, suite.precision, self.messages, failed=bool(stale) or exitstatus in UNFINISHED)
        worse = [] if suite.baseline is None else regressions(read_document(suite.baseline), runs)
        return make_document(
            suite.card.name,
            bench.data,
            environment(),
            runs,
            [*problems, *worse],
            error=any(trouble.error for trouble in troubles) or exitstatus in (4, 5),
            failed=bool(self.failed or stale or worse),
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Close with the table and the verdict."""
        if self.document is not None:
            print_summary(terminalreporter, self.document)
        elif not self.config.option.collectonly:
            terminalreporter.write_line("no device was checked: these tests are of the suite itself")


def _is_undecided(message: Message) -> bool:
    """Whether a test failed for want of evidence: nobody is accused of a deviation."""
    return isinstance(message, Reported) and isinstance(message.record, Stage) and message.record.outcome == "undecided"
