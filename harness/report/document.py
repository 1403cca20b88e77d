"""Makes the results document of what the checks reported, and writes it whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.cards import DeviceCard
from harness.checks.owed import Owed, not_run
from harness.checks.verdict import verdict_of_document, verdict_of_run
from harness.errors import HarnessError
from harness.files import check_output, check_replaceable, whole_file
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

RESULTS = re.compile(rb"\s*\{\s*\"schema\"")
"""Beginning of a results document of any schema."""


@dataclass(slots=True)
class _Collected:
    stages: list[Stage] = field(default_factory=list)
    accuracy: list[Accuracy] = field(default_factory=list)
    perf: list[Perf] = field(default_factory=list)
    diagnosis: list[Diagnosis] = field(default_factory=list)
    executed: dict[str, str] = field(default_factory=dict)
    beside: list[Verdict] = field(default_factory=list)


def make_runs(
    cards: Sequence[DeviceCard],
    precision: str,
    messages: Sequence[Message],
    owed: Sequence[Owed],
    *,
    is_part: bool = False,
) -> list[Run]:
    """One run a device, its records in an order that does not depend on the order of the tests.

    Args:
        cards: The devices that were asked for.
        precision: The precision that was asked for.
        messages: Reported by the checks. A trouble of no device keeps every run from conforming, one of a device its.
        owed: Tests that must have reported something; a run in which one has not is incomplete.
        is_part: Whether the run is a shard, which is judged when all are merged.
    """
    collected = {card.name: _Collected() for card in cards}
    for message in messages:
        if isinstance(message, Trouble):
            if message.device is not None:
                collected[message.device].beside.append(message.verdict)
                continue
            for found in collected.values():
                found.beside.append("incomplete" if message.verdict == "incomplete" else "undecided")
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
    lacking = [not_run(owed, card.name, messages) for card in cards]
    given = zip(cards, lacking, strict=True)
    return [_run(card, precision, collected[card.name], lacks, is_part=is_part) for card, lacks in given]


def _run(card: DeviceCard, precision: str, found: _Collected, lacking: tuple[str, ...], *, is_part: bool) -> Run:
    beside: list[Verdict] = [*found.beside, "incomplete"] if lacking else found.beside
    return Run(
        device=card.name,
        execution=card.execution,
        precision=precision,
        verdict=verdict_of_run(found.stages, found.accuracy, found.perf, beside, is_part=is_part),
        expected_failures=sum(stage.outcome == "expected-failure" for stage in found.stages),
        not_run=lacking,
        executed=dict(sorted(found.executed.items())),
        stages=tuple(sorted(found.stages, key=lambda stage: (stage.batch_size or 0, stage.name))),
        accuracy=tuple(sorted(found.accuracy, key=lambda accuracy: accuracy.batch_size or 0)),
        perf=tuple(sorted(found.perf, key=lambda perf: (perf.batch_size, perf.interval))),
        diagnosis=_surest(found.diagnosis),
    )


def _surest(found: Sequence[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Each answer of a stage once, the surest first; "unknown" only where nothing explains it at any batch size."""
    best: dict[tuple[str, tuple[str, ...]], Diagnosis] = {}
    for one in sorted(found, key=lambda one: (-one.confidence, one.faults, one.residual or 0.0)):
        best.setdefault((one.stage, one.faults), one)
    named = {one.stage for one in best.values() if one.faults}
    return tuple(one for one in best.values() if one.faults or one.stage not in named)


def make_document(
    model: str,
    data: Data | None,
    environment: dict[str, str],
    runs: Sequence[Run],
    problems: Sequence[str],
    beside: Iterable[Verdict] = (),
) -> Document:
    """Make the document of a session.

    Args:
        model: Name of the model card.
        data: The images; None where the session ended before they were read.
        environment: Versions and machine.
        runs: One a device.
        problems: What went wrong beside the stages.
        beside: Verdicts of what belongs to no run.
    """
    return Document(
        model=model,
        data=data,
        environment=environment,
        verdict=verdict_of_document((run.verdict for run in runs), beside),
        expected_failures=sum(run.expected_failures for run in runs),
        problems=tuple(problems),
        runs=tuple(runs),
    )


def check_results(path: Path) -> None:
    """Check the place of a results document: a new name, or an earlier document, which is replaced.

    Raises:
        HarnessError: See `check_output`, or the file that is there holds something else.
    """
    check_output(path, "--results")
    check_replaceable(path, "--results", RESULTS, "a results document")


def write_document(document: Document, path: Path) -> None:
    """Write the document as JSON: whole under its name, or an error and nothing.

    Raises:
        HarnessError: See `check_results`, or the file cannot be written, such as on a full disk.
    """
    try:
        check_results(path)
        with whole_file(path) as partial:
            partial.write_text(json.dumps(to_json(document), indent=2) + "\n", encoding="utf-8")
    except HarnessError as error:
        cause = f"the results cannot be written: {error.cause}"
        raise HarnessError(cause, file=path, field="--results", remedy=error.remedy) from error
