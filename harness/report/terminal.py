"""The summary of a results document as lines of text: one table, the findings, the verdict, the counts."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from harness.checks.owed import AT, by_batch_size
from harness.checks.verdict import SPEED_STAGES
from harness.faults.diagnosis.text import answers
from harness.report.escape import printable, printable_lines
from harness.report.reasons import device_name, images_of, stored_lines, workflow_commands
from harness.report.records import Accuracy, Document, Perf, Run, Verdict

TITLE = "conformance"
NO_FLOOR = "floor not applicable"
"""Beginning of the outcome of a floor that does not apply."""
WITHOUT_IMAGES = ("contract", "conversion")
"""Stages that judge a file and no image."""
WIDTH = 140
SUMMARY = "GITHUB_STEP_SUMMARY"
"""Variable by which GitHub Actions names the file of a step's summary, and tells that it is there."""
COLOUR: dict[Verdict, str] = {
    "conforms": "green", "measured": "green", "part": "green",
    "undecided": "yellow", "incomplete": "yellow", "deviates": "red", "error": "red",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the summary.

    Attributes:
        text: Without an end of line.
        colour: Of the whole line, where it has one.
        bold: Whether it stands out.
    """

    text: str
    colour: str | None = None
    bold: bool = False

    def __post_init__(self) -> None:
        # Names, descriptions and messages come from cards, devices and files.
        object.__setattr__(self, "text", printable_lines(self.text))


def summary(document: Document) -> Iterator[Line]:
    """Table, stages that did not pass, intervals, margins, diagnosis, problems, verdicts, counts; for GitHub, why."""
    table = _table(document)
    if table.row_count:
        text = io.StringIO()
        Console(file=text, width=WIDTH, markup=False, emoji=False).print(table)
        yield from map(Line, text.getvalue().splitlines())
    for run in document.runs:
        yield from map(Line, _findings(run))
    told = {not_run_text(run) for run in document.runs}  # stands behind the verdict of the device
    for problem in document.problems:
        if problem not in told:
            yield Line(f"problem: {problem}", "yellow")
    for run in document.runs:
        yield Line(f"{device_name(run)} {run.precision}: {_verdict(run)}")
    yield Line(f"verdict: {document.verdict}{_expected(document)}", COLOUR[document.verdict], bold=True)
    yield Line(_counts(document))
    if document.part is not None:
        yield Line(f"{images_of(document)}: judged by python -m harness merge, with the others")
    if os.environ.get(SUMMARY):
        yield from map(Line, workflow_commands(document))


def not_run_text(run: Run) -> str:
    """Name the stages of a device that were owed and did not run, as problems do."""
    return f"{run.device}: not run: {by_batch_size(run.not_run)}"


def _verdict(run: Run) -> str:
    """The verdict on a device, with the stages that did not run and the floor that was not applied."""
    parts: list[str] = [run.verdict]
    if run.not_run:
        parts.append(f"not run: {by_batch_size(run.not_run)}")
    parts += sorted({accuracy.floor for accuracy in run.accuracy if _is_skipped(accuracy.floor)})
    return ", ".join(parts)


def _is_skipped(floor: str) -> bool:
    """Tell whether the card has a floor that was not applied, for the number of images."""
    return floor.startswith(NO_FLOOR) and floor.endswith(" images)")


def _expected(document: Document) -> str:
    """The number of expected failures, and their stages."""
    count = document.expected_failures
    if not count:
        return ""
    named = []
    for run in document.runs:
        stages = [f"{s.name}{AT}{s.batch_size}" for s in run.stages if s.outcome == "expected-failure"]
        named += [f"{run.device} in {by_batch_size(stages)}"] if stages else []
    return f", with {count} expected failure{'s' if count > 1 else ''}: {'; '.join(named)}"


def _findings(run: Run) -> Iterator[str]:
    for stage in run.stages:
        if stage.outcome != "passed" or stage.detail is not None:  # what was not judged is told of a pass, too
            first = (stage.detail or "").splitlines()[:1]
            size = f" at batch size {stage.batch_size}"
            yield f"{run.device}: stage {stage.name}{size}: {stage.outcome}: {''.join(first)}"
    for line in (*stored_lines(run), *_intervals(run), *_margins(run)):
        yield f"{device_name(run)}: {line}"
    for accuracy in run.accuracy:
        if accuracy.readings:
            yield f"{device_name(run)}: {_band(accuracy)}"
    for line in answers(run.diagnosis):
        yield f"{device_name(run)}: diagnosis: {line}"
    for floor in sorted({accuracy.floor for accuracy in run.accuracy}):
        if not _is_skipped(floor):
            yield f"{run.device}: {floor}"


def _table(document: Document) -> Table:
    table = Table(
        title=printable(f"{document.model} on {images_of(document)}"), title_justify="left", box=None, pad_edge=False
    )
    for heading in ("device", "batch", "AP", "reference", "allowed loss", "images", "fps", "p50 ms", "p99 ms", "clock"):
        table.add_column(heading, justify="left" if heading in ("device", "clock") else "right")
    for run in document.runs:
        speeds: dict[int | None, list[Perf]] = {}
        for perf in run.perf:
            speeds.setdefault(perf.batch_size, []).append(perf)
        accuracies = {accuracy.batch_size: accuracy for accuracy in run.accuracy}
        for size in sorted({*speeds, *accuracies}, key=lambda size: size or 0):
            ap = accuracies.get(size)
            figures = ["", "", "", ""]
            if ap is not None:
                figures = [f"{ap.AP:.4f}", f"{ap.reference_AP:.4f}", f"{ap.allowed_loss:.4f}", str(ap.images)]
            for speed in [_speed(perf) for perf in speeds.get(size, [])] or [[]]:
                row = (device_name(run), "-" if size is None else str(size), *figures, *speed)
                table.add_row(*map(printable, row))
    return table


def _intervals(run: Run) -> list[str]:
    """Interval of each loss of AP, where the stage has not said it already."""
    undecided = {(stage.name, stage.batch_size) for stage in run.stages if stage.outcome == "undecided"}
    lines = []
    for ap in run.accuracy:
        found = ap.loss_interval
        if found is not None and ("accuracy", ap.batch_size) not in undecided:
            lines.append(
                f"batch size {ap.batch_size}: AP loss {ap.reference_AP - ap.AP:.4f}, {found.confidence:.0%} interval "
                f"{found.low:.4f} to {found.high:.4f} (paired bootstrap over {ap.images} images)"
            )
    return lines


def _margins(run: Run) -> list[str]:
    """Largest measured / allowed of each stage."""
    largest: dict[str, tuple[float, int | None]] = {}
    for stage in run.stages:
        if stage.margin is not None and stage.margin >= largest.get(stage.name, (-math.inf, 0))[0]:
            largest[stage.name] = (stage.margin, stage.batch_size)
    shown = [f"{name} {max(margin, 0.0):.2g} (batch size {size})" for name, (margin, size) in largest.items()]
    return [f"largest measured / allowed: {', '.join(shown)}"] if shown else []


def _band(accuracy: Accuracy) -> str:
    low, high = accuracy.band
    others = ", ".join(f"{ap:.4f} with {reading}" for reading, ap in accuracy.readings.items())
    return (
        f"AP {low:.4f} to {high:.4f} at batch size {accuracy.batch_size}, as not all of the chip is known: {others}; "
        "the verdict is by the one above"
    )


def _speed(perf: Perf) -> list[str]:
    return [f"{perf.fps:.2f}", f"{perf.latency_ms.p50:.1f}", f"{perf.latency_ms.p99:.1f}", perf.interval]


def _counts(document: Document) -> str:
    parts = [
        f"{sum(stage.comparisons for stage in run.stages)} comparisons over {_images(document, run)} images "
        f"on {device_name(run)}"
        for run in document.runs
    ]
    return "; ".join(parts) or "0 comparisons: no device was checked"


def _images(document: Document, run: Run) -> int:
    """Number of images that a verdict rests on: none where only speeds or shapes of tensors were compared."""
    judged = any(stage.comparisons for stage in run.stages if stage.name not in (*SPEED_STAGES, *WITHOUT_IMAGES))
    if document.data is None or not (judged or run.accuracy):
        return 0
    return document.data.images if document.part is None else document.part.images
