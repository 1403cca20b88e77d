"""Makes the results document of what the tests reported, and writes it whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cards import DeviceCard
from harness.errors import HarnessError
from harness.files import whole_file
from harness.report.records import (
    Accuracy,
    Data,
    Diagnosis,
    Document,
    Executed,
    Message,
    Perf,
    Run,
    Stage,
    Trouble,
    Verdict,
    to_json,
)


@dataclass(slots=True)
class _Collected:
    stages: list[Stage] = field(default_factory=list)
    accuracy: list[Accuracy] = field(default_factory=list)
    perf: list[Perf] = field(default_factory=list)
    diagnosis: list[Diagnosis] = field(default_factory=list)
    executed: dict[str, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)


def make_runs(cards: Sequence[DeviceCard], precision: str, messages: Iterable[Message], *, failed: bool) -> list[Run]:
    """One run a device, its records in an order that does not depend on the order of the tests.

    Args:
        cards: The devices that were asked for.
        precision: The precision that was asked for.
        messages: What the tests reported. A trouble of no device keeps every run from conforming, one of a device its.
        failed: Whether something went wrong that no message tells of; no run conforms then.
    """
    collected = {card.name: _Collected() for card in cards}
    for message in messages:
        if isinstance(message, Trouble):
            for name in collected if message.device is None else (message.device,):
                collected[name].troubles.append(message)
            continue
        into = collected[message.device]
        if isinstance(message, Executed):
            into.executed.update(message.executed)
        elif isinstance(message.record, Stage):
            into.stages.append(message.record)
        elif isinstance(message.record, Accuracy):
            into.accuracy.append(message.record)
        elif isinstance(message.record, Diagnosis):
            into.diagnosis.append(message.record)
        else:
            into.perf.append(message.record)
    return [_run(card, precision, collected[card.name], failed=failed) for card in cards]


def _run(card: DeviceCard, precision: str, found: _Collected, *, failed: bool) -> Run:
    return Run(
        device=card.name,
        execution=card.execution,
        precision=precision,
        verdict=_verdict(found, failed=failed),
        executed=dict(sorted(found.executed.items())),
        stages=tuple(sorted(found.stages, key=lambda stage: (stage.batch_size or 0, stage.name))),
        accuracy=tuple(sorted(found.accuracy, key=lambda accuracy: accuracy.batch_size)),
        perf=tuple(sorted(found.perf, key=lambda perf: (perf.batch_size, perf.interval))),
        diagnosis=_surest(found.diagnosis),
    )


def _surest(found: Sequence[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Each answer once, the surest first; that nothing explains it only where nothing does at any batch size."""
    best: dict[tuple[str, ...], Diagnosis] = {}
    for one in sorted(found, key=lambda one: (-one.confidence, one.faults, one.residual or 0.0)):
        best.setdefault(one.faults, one)
    return tuple(one for one in best.values() if one.faults or len(best) == 1)


def _verdict(found: _Collected, *, failed: bool) -> Verdict:
    if any(trouble.error for trouble in found.troubles):
        return "error"
    if any(stage.outcome == "failed" for stage in found.stages):
        return "deviates"
    if any(stage.outcome == "undecided" for stage in found.stages):
        return "undecided"
    if failed or found.troubles or not sum(stage.comparisons for stage in found.stages):
        return "undecided"
    return "conforms"


def make_document(
    model: str,
    data: Data | None,
    environment: dict[str, str],
    runs: Sequence[Run],
    problems: Sequence[str],
    *,
    error: bool,
    failed: bool,
) -> Document:
    """The document of a run.

    Args:
        model: Name of the model card.
        data: The images; None where the run ended before they were read.
        environment: Versions and machine.
        runs: One a device.
        problems: What went wrong beside the stages.
        error: A device, tool, file or option is missing or wrong.
        failed: A test failed.
    """
    verdicts = {run.verdict for run in runs}
    verdict: Verdict
    if error:
        verdict = "error"
    elif failed or "deviates" in verdicts:
        verdict = "deviates"
    elif not runs or "undecided" in verdicts:
        verdict = "undecided"
    else:
        verdict = "conforms"
    return Document(
        model=model,
        data=data,
        environment=environment,
        verdict=verdict,
        problems=tuple(problems),
        runs=tuple(runs),
    )


def write_document(document: Document, path: Path) -> None:
    """Write the document as JSON: whole under its name, or an error and nothing.

    Raises:
        HarnessError: The file cannot be written, such as on a full disk.
    """
    try:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(to_json(document), indent=2) + "\n", encoding="utf-8")
    except HarnessError as error:
        cause = f"the results cannot be written: {error.cause}"
        raise HarnessError(cause, file=path, field="--results", remedy=error.remedy) from error
