"""Beginning and end of a session, with or without pytest: what is checked first, the header, the document."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from harness.cards import DeviceCard
from harness.checks.owed import owed_by
from harness.errors import HarnessError
from harness.report.baseline import read_document
from harness.report.document import make_document, make_runs, write_document
from harness.report.environment import environment
from harness.report.escape import printable
from harness.report.records import Data, Document, Message, Run, Trouble
from harness.report.terminal import not_run_text
from harness.run.checked import Checked
from harness.run.evidence import gather
from harness.run.gate import check_gate, describe_gate, held_to, identified, speeds_held_to
from harness.run.part import shard_of, with_part
from harness.run.publish import publish
from harness.run.published import with_published
from harness.run.session import Session

INTERRUPTED = "the run was interrupted: not every test was run"
STARTED = "the run has begun and has not ended: this document is replaced at its end"


class RunDocument:
    """The results document of a run: `incomplete` from its first second on, and replaced at its end.

    A process that ends in between, by whatever cause, leaves a document that says so.

    Args:
        session: Model, data and devices.
        environment: Gives machine and versions of the run; by default those of this process.

    Raises:
        HarnessError: A device is not known, or the baseline cannot be read.
    """

    def __init__(self, session: Checked, environment: Callable[[], dict[str, str]] = environment) -> None:
        self.session, self.environment = session, environment
        self.groups: frozenset[str] = frozenset({"accuracy"})
        baseline = session.options.baseline
        # Read before anything is written: it may be the very file that the results go to.
        self.baseline = None if baseline is None else read_document(baseline)

    def begin(self) -> None:
        """Write the document of a run that has only begun, and check that all that was asked for is there.

        Raises:
            HarnessError: It is not, the document cannot be written, or the baseline is of something else.
        """
        self.session.check_devices()
        self._write_started(None)
        self.session.check()
        check_gate(self.session, self.baseline)

    def owe(self, groups: Collection[str]) -> None:
        """Note the groups of tests of which one was selected: the run owes all of each."""
        self.groups = frozenset(groups)
        self._write_started(self.session.data)

    def _write_started(self, data: Data | None) -> None:
        options = self.session.options
        if options.results is not None:
            runs, _ = self._runs([Trouble(device=None, text=STARTED, verdict="incomplete")])
            made = make_document(options.model, data, self.environment(), runs, [STARTED], ["incomplete"])
            write_document(made, options.results)

    def _cards(self) -> list[DeviceCard]:
        return [self.session.device(name).card for name in self.session.options.devices]

    def _runs(self, messages: Sequence[Message]) -> tuple[list[Run], list[str]]:
        """The runs so far, and the problem of each in which something did not run; an error says it by itself."""
        options = self.session.options
        owed, is_part = owed_by(self.groups, options.batch_sizes), shard_of(self.session) is not None
        runs = make_runs(self._cards(), options.precision, messages, owed, is_part=is_part)
        return runs, [not_run_text(run) for run in runs if run.not_run and run.verdict != "error"]

    def close(self, messages: Sequence[Message]) -> Document:
        """Make the document of a session that is over, and write it where it is asked for.

        Args:
            messages: Reported by the checks, with a trouble for all that went wrong around them.

        Returns:
            The document; with the verdict `error` where it could not be written.
        """
        options = self.session.options
        troubles = [message for message in messages if isinstance(message, Trouble)]
        runs, lacking = self._runs(messages)
        worse, unheld = held_to(self.baseline, runs)
        slower, untold, unclear = speeds_held_to(self.session, self.baseline, runs)
        worse += slower
        problems = [*dict.fromkeys(trouble.text for trouble in troubles), *lacking, *worse, *unheld, *untold]
        beside = [trouble.verdict for trouble in troubles if trouble.device is None]
        beside += ["deviates"] if worse else []
        beside += ["error"] if unheld else []
        beside += [unclear] if unclear is not None else []
        made = make_document(options.model, self.session.data, self.environment(), runs, problems, beside)
        made = with_published(identified(made, self.session), self.session)
        made = with_part(made, self.session, messages)
        found = publish(made, options.model, options.report, lambda: gather(self.session, made))
        return write(found, options.results)


def refuse(model: str, error: HarnessError, results: Path | None) -> HarnessError:
    """Write the document of a check that cannot begin.

    Returns:
        The error to raise: the one given, with what kept the document from being written.
    """
    if results is None or error.field == "--results":
        return error
    document = make_document(model, None, environment(), [], [str(error)], ["error"])
    try:
        write_document(document, results)
    except HarnessError as second:
        cause, remedy = error.cause, error.remedy
        if remedy is None:
            cause = f"{cause}\n{second}"
        else:
            remedy = f"{remedy}\n{second}"
        return HarnessError(cause, file=error.file, field=error.field, remedy=remedy)
    return error


def write(document: Document, results: Path | None) -> Document:
    """Write the document where it is asked for.

    Returns:
        The document; with the verdict `error` where it could not be written.
    """
    if results is not None:
        try:
            write_document(document, results)
        except HarnessError as error:
            return document.model_copy(update={"problems": (*document.problems, str(error)), "verdict": "error"})
    return document


def header(session: Session, baseline: Document | None) -> list[str]:
    """Name device, model, data set, baseline and versions."""
    options = session.options
    cards = [session.device(name).card for name in options.devices]
    what = "weights" if session.subject.module is not None else "ONNX"
    sizes = ", ".join(map(str, options.batch_sizes))
    part = f", of which {len(session.part_ids)} are shard {options.shard}" if options.shard is not None else ""
    lines = [
        *(f"device: {card.name} ({card.execution}): {card.description}" for card in cards),
        f"model: {options.card.name}: {options.card.description}",
        f"model: {what} sha256 {session.subject.sha256[:12]}, precision {options.precision}, batch sizes {sizes}",
        f"data: {session.data.name}, {session.data.images} images{part}, sha256 {session.data.sha256[:12]}",
        *describe_gate(session, baseline),
        *(line for card in cards for line in _proposals(card)),
        "versions: " + ", ".join(f"{name} {version}" for name, version in environment().items()),
    ]
    return [printable(line) for line in lines]


def _proposals(card: DeviceCard) -> list[str]:
    """Say where the author of a device lists failures that excuse nothing here, and how to put them in force."""
    counts = Counter(entry.file for entry in card.proposals)
    return [
        f"expectations: {file}: {count} proposed by the author of {card.name} and not in force; "
        f"to put them in force: --expectations {shlex.quote(file)}"
        for file, count in counts.items()
    ]
