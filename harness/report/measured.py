"""Tables of measured figures: Markdown, written from stored results documents and from rows in TOML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from harness.cards.schema import Record, parse, read_toml
from harness.errors import HarnessError, not_valid
from harness.files import read_regular
from harness.report.baseline import read_document
from harness.report.records import Accuracy, Document, Perf, Run

INDEX = Path("measured") / "tables.toml"
"""List of the tables, below `reports/`."""
PAGE = Path("measured.md")
"""Page that is written, below `reports/`."""
HEADER = """\
# Measured figures

Written by `python -m harness report --measured` from `reports/measured/tables.toml` and the results documents that it
names. Change those, not this page. AP is a fraction; `reference` is the AP of the float32 network on the same images.
"""
COLUMNS = {
    "accuracy": (
        "device", "execution", "model", "precision", "batch", "images", "AP", "reference", "allowed loss",
        "95 % interval of the loss", "verdict",
    ),
    "speed": ("device", "execution", "model", "precision", "batch", "fps", "p50 ms", "p99 ms", "clock"),
}  # fmt: skip
"""Columns of a table that is made of results documents, by what it shows."""

ROWS_BYTES = 2**20
"""Most bytes of a file of rows."""

Cell = str | int | float


class Stored(Record):
    """A results document in the repository."""

    file: str
    """Path below `reports/`."""
    date: str
    """Month or day of the run."""
    command: str
    """Command that wrote it."""


class Rows(Record):
    """Rows that a command of the suite wrote, in a JSON file of their own."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = Field(min_length=1)
    origin: str
    """Date and command."""


class Table(Record):
    """One table: of results documents, of a file of rows, or of rows copied from a run without a stored document."""

    title: str
    text: str
    shows: Literal["accuracy", "speed"] = "accuracy"
    documents: tuple[Stored, ...] = ()
    written: str = ""
    """Path below `reports/` of a file of `Rows`."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    origin: str = ""
    """Date, command and kind (measured, emulated, simulated, estimated) of the rows."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.documents, self.written, self.rows))) != 1:
            raise ValueError("a table has one of documents, written and rows")
        if self.rows and not self.origin:
            raise ValueError("rows need an origin")
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("every row must have a cell for each of columns")
        return self


class Tables(Record):
    """Content of `INDEX`."""

    table: tuple[Table, ...] = Field(min_length=1)


def write_measured(reports: Path) -> Path:
    """Write the page; return its path.

    Args:
        reports: The folder `reports/`.

    Raises:
        HarnessError: The index or a document is missing, or holds something else.
    """
    page = reports / PAGE
    page.write_text(render(reports), encoding="utf-8")
    return page


def check_measured(reports: Path) -> Path:
    """Hold the page to the stored figures; return its path.

    Raises:
        HarnessError: The page is missing or differs from what `write_measured` would write.
    """
    hold_page(reports / PAGE, render(reports))
    return reports / PAGE


def hold_page(page: Path, text: str) -> None:
    """Hold a page to what it should be.

    Raises:
        HarnessError: It is missing or differs; the message says where.
    """
    wanted = text.splitlines()
    found = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    if found != wanted:
        pairs = enumerate(zip(found, wanted, strict=False), start=1)
        line = next((number for number, (old, new) in pairs if old != new), min(len(found), len(wanted)) + 1)
        raise HarnessError(
            f"line {line} is not what the stored figures give",
            file=page,
            remedy="run 'python -m harness report --measured'",
        )


def stored_documents(reports: Path) -> list[Stored]:
    """Return the results documents that the index names, each once.

    Raises:
        HarnessError: The index is missing, or holds something else.
    """
    index = reports / INDEX
    found = (one for table in parse(Tables, read_toml(index), index).table for one in table.documents)
    return list({one.file: one for one in found}.values())


def render(reports: Path) -> str:
    """Page as Markdown.

    Raises:
        HarnessError: The index or a document is missing, or holds something else.
    """
    index = reports / INDEX
    tables = parse(Tables, read_toml(index), index).table
    return "\n".join([HEADER, *("\n".join(_table(table, reports)) for table in tables)])


def _table(table: Table, reports: Path) -> Iterator[str]:
    if table.written:
        found = _read_rows(reports / table.written)
        table = table.model_copy(update=dict(found))
    columns = table.columns or COLUMNS[table.shows]
    rows: Sequence[Sequence[Cell]] = table.rows
    if table.documents:
        rows = [row for one in table.documents for row in _rows(read_document(reports / one.file), table.shows)]
    yield from (f"## {table.title}", "", table.text.strip(), "")
    yield from (_line(columns), _line(["---"] * len(columns)), *map(_line, rows), "")
    if table.origin:
        yield from (f"Origin: {table.origin}.", "")
    for one in table.documents:
        yield f"- `{one.file}`, {one.date}: `{one.command}`"
    if table.documents:
        yield ""


def _read_rows(file: Path) -> Rows:
    """Read a file of rows.

    Raises:
        HarnessError: It is missing, or holds something else.
    """
    remedy = "write it again with the command that the table names"
    try:
        return Rows.model_validate_json(read_regular(file, None, ROWS_BYTES, remedy=remedy))
    except ValidationError as error:
        raise not_valid("a file of rows", error, file=file, remedy=remedy) from error


def _line(cells: Sequence[Cell]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _rows(document: Document, shows: str) -> Iterator[tuple[Cell, ...]]:
    for run in document.runs:
        start = (f"`{run.device}`", run.execution, f"`{document.model}`", run.precision)
        if shows == "accuracy":
            yield from ((*start, *_accuracy(run, one)) for one in run.accuracy)
        else:
            yield from ((*start, *_speed(one)) for one in run.perf)


def _accuracy(run: Run, one: Accuracy) -> tuple[Cell, ...]:
    interval = "" if one.loss_interval is None else f"{one.loss_interval.low:.4f} to {one.loss_interval.high:.4f}"
    others = "".join(f" ({value:.4f} with {reading})" for reading, value in one.readings.items())
    figures = (f"{one.AP:.4f}{others}", f"{one.reference_AP:.4f}", f"{one.allowed_loss:.4f}")
    return ("-" if one.batch_size is None else one.batch_size, one.images, *figures, interval, run.verdict)


def _speed(one: Perf) -> tuple[Cell, ...]:
    return (
        one.batch_size, f"{one.fps:.1f}", f"{one.latency_ms.p50:.1f}", f"{one.latency_ms.p99:.1f}", one.interval
    )  # fmt: skip
