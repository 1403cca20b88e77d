"""Beginning and end of a session, with or without pytest: what is checked first, the header, the document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.checks.verdict import Circumstances
from harness.errors import HarnessError
from harness.report.document import make_document, make_runs, write_document
from harness.report.environment import environment
from harness.report.records import Document, Message, Trouble
from harness.run.gate import check_gate, describe_gate, held_to, identified
from harness.run.session import Session

INTERRUPTED = "the run was interrupted: not every test was run"


def prepare(session: Session) -> None:
    """Check that all that was asked for is there, before any stage runs.

    Raises:
        HarnessError: It is not, or the baseline is of something else.
    """
    session.check()
    check_gate(session)


def refuse(model: str, error: HarnessError, results: Path | None) -> HarnessError:
    """Write the document of a check that cannot begin.

    Returns:
        The error to raise: the one given, with what kept the document from being written.
    """
    if results is None:
        return error
    document = make_document(model, None, environment(), [], [str(error)], Circumstances(error=True))
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


def header(session: Session) -> list[str]:
    """Name device, model, data set and versions."""
    options = session.options
    cards = [session.device(name).card for name in options.devices]
    what = "weights" if session.subject.module is not None else "ONNX"
    sizes = ", ".join(map(str, options.batch_sizes))
    return [
        *(f"device: {card.name} ({card.execution}): {card.description}" for card in cards),
        f"model: {options.card.name}: {options.card.description}",
        f"model: {what} sha256 {session.subject.sha256[:12]}, precision {options.precision}, batch sizes {sizes}",
        f"data: {session.data.name}, {session.data.images} images, sha256 {session.data.sha256[:12]}",
        *describe_gate(session),
        "versions: " + ", ".join(f"{name} {version}" for name, version in environment().items()),
    ]


def conclude(
    session: Session, messages: Sequence[Message], stale: Sequence[str], unfinished: str | None, around: Circumstances
) -> Document:
    """Make the document of a session that is over.

    Args:
        session: Model, data and devices.
        messages: Reported by the checks.
        stale: Messages about expectations that do not hold.
        unfinished: Why not every test was run; None where all were.
        around: What went wrong; `failed` where a test failed, or something else than a device.
    """
    options = session.options
    troubles = [message for message in messages if isinstance(message, Trouble)]
    problems = list(dict.fromkeys([*(trouble.text for trouble in troubles), *stale]))
    problems += [] if unfinished is None else [unfinished]
    cards = [session.device(name).card for name in options.devices]
    of_runs = Circumstances(failed=bool(stale) or unfinished is not None, interrupted=around.interrupted)
    runs = make_runs(cards, options.precision, messages, of_runs)
    worse, unheld = held_to(session, runs)
    around = Circumstances(
        error=around.error or any(trouble.error for trouble in troubles) or bool(unheld and not around.interrupted),
        failed=around.failed or bool(stale or worse),
        interrupted=around.interrupted,
    )
    problems += [*worse, *unheld]
    return identified(make_document(options.card.name, session.data, environment(), runs, problems, around), session)
