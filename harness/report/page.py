"""A page for people, of one results document or several: HTML, Markdown, tables as CSV, and a badge."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.checks.disagreement import SHOWN_SCORE
from harness.checks.verdict import verdict_of_document
from harness.faults import CATALOGUE
from harness.faults.diagnosis.text import answers
from harness.faults.training import TRAINING_FAULTS
from harness.files import whole_file
from harness.report.charts import latency, precision_recall
from harness.report.escape import printable
from harness.report.folder import FILES, check_report_folder
from harness.report.reasons import device_name, images_of, outcome_text, place, reasons, stored_lines
from harness.report.records import COURSE, Document, Run, Stage, Verdict
from harness.report.sections import Named, matrix, own_figure, parts, trends

MEANING: dict[Verdict, str] = {
    "conforms": "every stage that was owed ran, and is within what is allowed",
    "deviates": "a stage differs from the reference by more than is allowed",
    "undecided": "nothing deviates, and the images are too few to tell a loss that matters from none",
    "incomplete": "not every stage that was owed ran",
    "measured": "speeds were measured, and nothing was judged",
    "part": "this is one part of a run, which is judged when all parts are put together",
    "error": "something that was given is missing or wrong",
}
COLOUR: dict[Verdict, str] = {
    "conforms": "brightgreen", "measured": "blue", "part": "blue", "undecided": "yellow",
    "incomplete": "orange", "deviates": "red", "error": "red",
}  # fmt: skip
"""Of the badge, as shields.io names them."""
TONE = {
    "conforms": "good", "measured": "calm", "estimated": "calm", "part": "calm", "undecided": "open",
    "incomplete": "open", "deviates": "bad", "error": "bad",
}  # fmt: skip
"""Class in the style sheet of each verdict."""
SPECIAL = "\\`*_{}[]<>#+|~&"
"""Characters that Markdown, or the HTML within it, gives a meaning."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Stages of a run against its batch sizes.

    Attributes:
        sizes: Batch sizes, in order.
        rows: Name of each stage, and the stage at each of these sizes, None where it was not run.
    """

    sizes: tuple[int | None, ...]
    rows: tuple[tuple[str, tuple[Stage | None, ...]], ...]


def write_report(documents: Sequence[Named], folder: Path, field: str = "--output") -> list[Path]:
    """Write the page of results documents into a folder, each file whole or not at all; return the files.

    Args:
        documents: At least one.
        folder: Made where it is not there; files of an earlier report are replaced.
        field: The option that names it.

    Raises:
        HarnessError: The folder is none, or may not be written.
    """
    check_report_folder(folder, field)
    texts = (
        render(documents, "report.html.jinja"),
        render(documents, "report.md.jinja"),
        _csv(_accuracy(documents)),
        _csv(_speed(documents)),
        _csv(_stages(documents)),
        _csv(_classes(documents)),
        json.dumps(badge([one.document for one in documents])) + "\n",
    )
    paths = []
    for name, text in zip(FILES, texts, strict=True):
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def render(documents: Sequence[Named], template: str) -> str:
    """Make the page of documents by a template of this package."""
    names: dict[str, Callable[..., Any]] = {
        "reasons": reasons, "ladder": ladder, "diagnosis": diagnosis, "device": device_name, "number": number,
        "stored_lines": stored_lines,
        "margin": margin, "outcome": outcome_text, "scope": scope, "parts": parts, "own_figure": own_figure,
        "matrix": matrix, "trends": trends, "precision_recall": precision_recall, "latency_chart": latency,
    }  # fmt: skip
    verdict = overall([one.document for one in documents])
    limits = {"shown_score": SHOWN_SCORE, "course": COURSE}
    return fill_in(template, documents=documents, verdict=verdict, meaning=MEANING, **limits, **names)


def fill_in(template: str, **values: object) -> str:
    """Fill in a template of this package; text from elsewhere is no markup in it."""
    is_html = ".html" in template
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown if is_html else _escaped,
    )
    return environment.get_template(template).render(values, tone=TONE)


def _shown(value: object) -> object:
    """Make text printable before it is escaped for HTML; what is markup already stays."""
    return value if hasattr(value, "__html__") else "" if value is None else printable(value)


def _escaped(value: object) -> object:
    """Make text printable, and take from it all that Markdown would give a meaning."""
    return "" if value is None else "".join(f"\\{one}" if one in SPECIAL else one for one in printable(value))


def overall(documents: Sequence[Document]) -> Verdict:
    """Return the verdict over several documents: the worst of them."""
    return verdict_of_document([one.verdict for one in documents])


def badge(documents: Sequence[Document]) -> dict[str, object]:
    """Make a badge in the format of an endpoint of shields.io."""
    verdict = overall(documents)
    return {"schemaVersion": 1, "label": "conformance", "message": verdict, "color": COLOUR[verdict]}


def scope(document: Document) -> str:
    """Say what a document is of: the model, and the images."""
    return document.model if document.data is None else f"{document.model} on {images_of(document)}"


def ladder(run: Run) -> Ladder:
    """Sort the stages of a run into rows, in their order, and columns, by batch size."""
    sizes = tuple(sorted({stage.batch_size for stage in run.stages}, key=lambda size: size or 0))
    by_place = {(stage.name, stage.batch_size): stage for stage in run.stages}
    names = dict.fromkeys(stage.name for stage in sorted(run.stages, key=place))
    return Ladder(sizes, tuple((name, tuple(by_place.get((name, size)) for size in sizes)) for name in names))


def diagnosis(run: Run) -> list[tuple[str, str]]:
    """Return each answer of the diagnosis, and where its mistakes have been seen."""
    sources = {fault.id: fault.seen_in for fault in CATALOGUE} | {one.id: one.seen_in for one in TRAINING_FAULTS}
    by_answer = {text: one for one in run.diagnosis for text in answers([one])}
    return [
        (text, "; ".join(dict.fromkeys(sources[fault] for fault in by_answer[text].faults if fault in sources)))
        for text in answers(run.diagnosis)
    ]


def margin(stage: Stage) -> str:
    """Say how much of what is allowed a stage has used."""
    share = max(stage.margin or 0.0, 0.0)  # an AP above the reference's has used nothing
    return f"{share:.2g} times what is allowed" if share > 1 else f"{share:.0%} of what is allowed"


def number(value: float | None) -> str:
    """Write a figure of a stage with three digits; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        # A cell that begins so is a formula to a spreadsheet.
        cells = ["" if cell is None else printable(cell) for cell in row]
        writer.writerow([f"'{cell}" if cell[:1] in "=+@" and cell else cell for cell in cells])
    return text.getvalue()


def _runs(documents: Sequence[Named]) -> Iterator[tuple[Run, tuple[object, ...]]]:
    for one in documents:
        for run in one.document.runs:
            yield run, (one.name, one.document.model, run.device, run.execution, run.precision)


OF_RUN = ("document", "model", "device", "execution", "precision")


def _accuracy(documents: Sequence[Named]) -> Iterator[Sequence[object]]:
    sizes = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    yield (*OF_RUN, "batch_size", "images", *sizes, "reference_AP", "allowed_loss", "loss_low", "loss_high", "floor")
    for run, of in _runs(documents):
        for ap in run.accuracy:
            interval = (None, None) if ap.loss_interval is None else (ap.loss_interval.low, ap.loss_interval.high)
            figures = (getattr(ap, size) for size in sizes)
            yield (*of, ap.batch_size, ap.images, *figures, ap.reference_AP, ap.allowed_loss, *interval, ap.floor)


def _speed(documents: Sequence[Named]) -> Iterator[Sequence[object]]:
    yield (*OF_RUN, "batch_size", "fps", "p50_ms", "p90_ms", "p99_ms", "interval")
    for run, of in _runs(documents):
        for perf in run.perf:
            latency = perf.latency_ms
            yield (*of, perf.batch_size, perf.fps, latency.p50, latency.p90, latency.p99, perf.interval)


def _stages(documents: Sequence[Named]) -> Iterator[Sequence[object]]:
    yield (*OF_RUN, "stage", "batch_size", "outcome", "measured", "allowed", "margin", "comparisons", "detail")
    for run, of in _runs(documents):
        for one in run.stages:
            figures = (one.measured, one.allowed, one.margin, one.comparisons, one.detail)
            yield (*of, one.name, one.batch_size, one.outcome, *figures)


def _classes(documents: Sequence[Named]) -> Iterator[Sequence[object]]:
    yield (*OF_RUN, "batch_size", "class", "objects", "AP", "reference_AP")
    for run, of in _runs(documents):
        for ap in run.accuracy:
            for one in () if ap.breakdown is None else ap.breakdown.classes:
                yield (*of, ap.batch_size, one.name, one.objects, one.AP, one.reference_AP)
