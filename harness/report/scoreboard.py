"""The scoreboard: which device conforms, with which network at which precision, and how fast, from stored documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.checks.verdict import SPEED_STAGES
from harness.report.baseline import read_document
from harness.report.measured import hold_page, stored_documents
from harness.report.page import fill_in
from harness.report.records import ESTIMATED, Run

PAGES = ("scoreboard.html", "scoreboard.md")
"""Below `reports/`."""
ORIGIN = (
    "Written by python -m harness report --measured from the documents that reports/measured/tables.toml names. "
    "Only silicon is a chip that ran: emulated is this project's arithmetic, simulated a vendor's simulator, estimated "
    "a compiler's model."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One run on the scoreboard: the lowest AP and the highest speed over its batch sizes, as text."""

    device: str
    execution: str
    model: str
    precision: str
    verdict: str
    AP: str
    reference: str
    fps: str
    timed: str
    origin: str


def write_scoreboard(reports: Path) -> list[Path]:
    """Write the pages; return their paths.

    Args:
        reports: The folder `reports/`.

    Raises:
        HarnessError: The index or a document is missing, or holds something else.
    """
    for name, text in _pages(reports):
        (reports / name).write_text(text, encoding="utf-8")
    return [reports / name for name in PAGES]


def check_scoreboard(reports: Path) -> list[Path]:
    """Hold the pages to the stored documents; return their paths.

    Raises:
        HarnessError: A page is missing or differs from what `write_scoreboard` would write.
    """
    for name, text in _pages(reports):
        hold_page(reports / name, text)
    return [reports / name for name in PAGES]


def _pages(reports: Path) -> Iterator[tuple[str, str]]:
    rows = list(_rows(reports))
    for name in PAGES:
        yield name, fill_in(f"{name}.jinja", rows=rows, origin=ORIGIN)


def _rows(reports: Path) -> Iterator[Row]:
    for stored in stored_documents(reports):
        document = read_document(reports / stored.file)
        for run in document.runs:
            yield _row(run, document.model, f"{stored.date}: {stored.command}")


def _verdict(run: Run) -> str:
    """Return the verdict of a run; of speeds alone nothing was judged, which documents of schema 1 do not say."""
    judged = bool(run.accuracy) or any(stage.name not in SPEED_STAGES for stage in run.stages)
    if judged or run.verdict not in ("conforms", "measured"):
        return run.verdict
    return ESTIMATED if all(perf.estimated for perf in run.perf) else "measured"


def _row(run: Run, model: str, origin: str) -> Row:
    accuracy = min(run.accuracy, key=lambda one: one.AP, default=None)
    perf = max(run.perf, key=lambda one: one.fps, default=None)
    return Row(
        run.device,
        run.execution,
        model,
        run.precision,
        _verdict(run),
        "-" if accuracy is None else f"{accuracy.AP:.4f}",
        "-" if accuracy is None else f"{accuracy.reference_AP:.4f}",
        "-" if perf is None else f"{perf.fps:.1f}",
        "-" if perf is None else f"batch of {perf.batch_size}: {perf.interval}",
        origin,
    )
