"""The stages of accuracy of every device at every batch size, as ``pytest -m accuracy`` runs them."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from harness.cards.expectations import Expectation
from harness.checks.expectations import (
    CONVERSION,
    contradiction,
    entry_for,
    excused_conversion,
    stale_entries,
)
from harness.checks.outcome import StageResult
from harness.checks.owed import GROUPS
from harness.checks.verdict import verdict_of_exception
from harness.errors import DeviceEndedError, HarnessError
from harness.files.temporary import TemporaryFolder
from harness.report.defect import defect, is_of_device
from harness.report.records import (
    AGAINST,
    Accuracy,
    Diagnosis,
    Document,
    Executed,
    Message,
    Perf,
    Reported,
    Stage,
    Trouble,
    Verdict,
)
from harness.run import stages
from harness.run.against import against
from harness.run.conclude import INTERRUPTED, RunDocument, header, refuse
from harness.run.diagnose import diagnose_device
from harness.run.measured import speed
from harness.run.options import CheckOptions
from harness.run.progress import ShowProgress
from harness.run.session import Session
from harness.run.settle import settle
from harness.run.stages import StageCheck
from harness.run.store import Policy, Store

STAGE_CHECKS: dict[str, StageCheck] = {
    "contract": stages.contract,
    "heads": stages.heads,
    "batch": stages.batch,
    "detections": stages.decisions,
    "accuracy": stages.accuracy,
}
TESTS = tuple(test for name, group in GROUPS.items() if name != "training" for test in group)
"""All tests of devices that infer, of which expectations may speak."""
FPS = next(iter(GROUPS["perf"]))
"""Test that measures the speed, which a gate of speed by a baseline asks for."""
MODULES = sorted({test.partition("::")[0] for test in TESTS})


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a check.

    Args:
        document: Of what was checked until then.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        super().__init__()


def run_check(options: CheckOptions, say: Callable[[str], None], progress: ShowProgress | None) -> Document:
    """Run the check that `harness.run.check` describes."""
    with TemporaryFolder() as folder, ExitStack() as ending:
        store = Store(Policy(options.reuse, options.fresh))
        session = ending.enter_context(closing(Session(options, Path(folder), say, progress, store=store)))
        try:
            document = RunDocument(session)
            document.begin()
            document.owe({"accuracy"} if options.against is None else {"accuracy", AGAINST})
        except HarnessError as error:
            raise refuse(options.card.name, error, options.results) from error
        for line in header(session, document.baseline):
            say(line)
        check = Check(session)
        try:
            check.every_stage()
        except KeyboardInterrupt:
            told = Trouble(device=None, text=INTERRUPTED, verdict="incomplete")
            raise Interrupted(document.close([*check.messages, *check.stale(), told])) from None
        store.finish()
        return document.close([*check.messages, *check.stale()])


@dataclass(frozen=True)
class _Place:
    """A test of a device at a batch size, and the expectation that speaks of it."""

    test: str
    device: str
    batch_size: int
    entry: Expectation | None

    def __str__(self) -> str:
        return f"{self.test}[{self.device}-batch{self.batch_size}]"


@dataclass
class Check:
    """A check under way, and what it has found so far."""

    session: Session
    messages: list[Message] = field(default_factory=list)

    def every_stage(self) -> None:
        """Run every stage of every device at every batch size."""
        options = self.session.options
        for name in options.devices:
            for size in options.batch_sizes:
                for test, stage in GROUPS["accuracy"].items():
                    entry = entry_for(self._entries(name), test, options.precision, size)
                    self._run_stage(_Place(test, name, size, entry), STAGE_CHECKS[stage])
                for test in GROUPS[AGAINST] if options.against is not None else ():
                    entry = entry_for(self._entries(name), test, options.precision, size)
                    self._run_stage(_Place(test, name, size, entry), against)
                if options.baseline is not None and options.max_slowdown is not None:
                    self._run_stage(_Place(FPS, name, size, None), speed)

    def stale(self) -> list[Trouble]:
        """The expectations that have expired or match nothing."""
        options, today = self.session.options, datetime.date.today()
        tests = [(test, size) for size in options.batch_sizes for test in TESTS]
        return [
            Trouble(device=name, text=text, verdict="deviates")
            for name in options.devices
            for text in stale_entries(
                self._entries(name), tests, MODULES, options.precision, options.batch_sizes, today
            )
        ]

    def _entries(self, name: str) -> tuple[Expectation, ...]:
        return self.session.options.expectations_of(self.session.device(name).card)

    def _run_stage(self, place: _Place, stage: StageCheck) -> None:
        try:
            if stage is stages.contract:
                self._note_executed(place)
            result = stage(self.session, place.device, place.batch_size)
            self._take(place, result, diagnose=stage is stages.heads)
        except DeviceEndedError as error:
            self._trouble(place, str(error), verdict_of_exception(error))
        except HarnessError as error:
            self._refused(place, error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a device may raise anything; it is told with its place, and the others go on
            if isinstance(error, Exception) and not is_of_device(error):
                self._trouble(place, str(defect(error)), "error")
                return
            self.session.say(traceback.format_exc())
            first = "".join(traceback.format_exception_only(error)).splitlines()[0]
            self._trouble(place, f"{place}: {first}", verdict_of_exception(error))

    def _refused(self, place: _Place, error: HarnessError) -> None:
        """Report that the device, or something else that was given, does not take part."""
        against = str(error) if place.entry is None else contradiction(place.entry, CONVERSION, str(error))
        if against is not None:
            self._trouble(place, against, verdict_of_exception(error))
        elif place.entry is not None:
            self._report(place, excused_conversion(place.batch_size, place.entry))

    def _take(self, place: _Place, result: StageResult, *, diagnose: bool) -> None:
        """Report the outcome of a stage, explain it where it is not green, and hold it to the expectation."""

        def explain() -> list[Diagnosis]:
            return diagnose_device(self.session, place.device, place.batch_size) if diagnose else []

        options = self.session.options
        is_part = options.shard is not None
        settled = settle(result, place.entry, explain, place.device, options.precision, is_part=is_part)
        for record in (settled.stage, *result.further_records, *settled.diagnosis):
            self._report(place, record)
        if settled.against is not None:
            self._trouble(place, f"{place}: {settled.against}", "deviates")
        elif settled.text:
            self.session.say(settled.text)

    def _note_executed(self, place: _Place) -> None:
        executed = self.session.artifact(place.device, place.batch_size).executed
        precision = self.session.options.precision
        self.messages.append(Executed(device=place.device, precision=precision, executed=executed))

    def _report(self, place: _Place, record: Stage | Accuracy | Perf | Diagnosis) -> None:
        precision = self.session.options.precision
        reported = Reported(device=place.device, precision=precision, test=place.test, record=record)
        self.messages.append(reported)

    def _trouble(self, place: _Place, text: str, verdict: Verdict) -> None:
        self.session.say(text)
        self.messages.append(Trouble(device=place.device, text=text, verdict=verdict))
