"""History: figures of results documents in the order in which they were added, as JSON lines in a user's folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.cache import locked
from harness.cards.schema import Record
from harness.checks.drift import Shift, find_shifts
from harness.errors import HarnessError, not_valid
from harness.files import check_output_folder, is_file, read_text, whole_file
from harness.report.baseline import AP_DROP_ALLOWED, read_document
from harness.report.records import ESTIMATED, Document, Fraction, Positive, Verdict

FILE = "history.jsonl"
MOST_BYTES = 2**30
SLOWER = 0.05
"""Share of a speed whose loss is worth finding."""
REMEDY = "remove the line, or give the folder of a history"

Kind = Literal["AP", "fps", "estimated fps"]


class Figures(Record):
    """Figures of one run of a document at one batch size."""

    device: str
    precision: str
    batch_size: int | None
    AP: Fraction | None = None
    fps: Positive | None = None
    interval: str | None = None
    """Work within the time of `fps`; None where no speed was measured."""


class Entry(Record):
    """One document of a history, one line of the file."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    added: str
    """Time of the addition, UTC, as ISO 8601."""
    label: str | None
    """Name of what was checked, such as a commit."""
    model: str
    data_sha256: str | None
    weights_sha256: str | None
    onnx_sha256: str | None
    verdict: Verdict
    environment: dict[str, str]
    figures: tuple[Figures, ...]

    def __str__(self) -> str:
        return self.label or self.added


@dataclass(frozen=True, slots=True)
class Series:
    """One figure over time.

    Attributes:
        model: Name of the model card.
        device: Name.
        precision: Of the run.
        batch_size: Images at a time; None where a document does not say.
        kind: Which figure.
        entries: Those that have it, in order.
        values: One an entry.
    """

    model: str
    device: str
    precision: str
    batch_size: int | None
    kind: Kind
    entries: list[Entry]
    values: list[float]

    def shifts(self) -> list[Shift]:
        """Find the changes of level; of a speed, in shares of it."""
        if self.kind == "AP":
            return find_shifts(self.values, AP_DROP_ALLOWED)
        return find_shifts([math.log(value) for value in self.values], SLOWER)

    def told(self, shift: Shift) -> str:
        """Say when a figure changed, from what to what, and which step was the largest."""
        levels = (value if self.kind == "AP" else math.exp(value) for value in (shift.before, shift.after))
        step, start = self.values[shift.largest - 1 : shift.largest + 1], self.entries[shift.start]
        return (
            f"{self.kind} {'fell' if shift.is_fall else 'rose'} from {self.range(*levels)}, beginning with {start} "
            f"({start.added}), seen at {self.entries[shift.seen]}; largest step: {self.range(*step)} at "
            f"{self.entries[shift.largest]}"
        )

    def text(self, value: float) -> str:
        """Write a value with the digits that are usual for it."""
        return format(value, ".4f" if self.kind == "AP" else ".2f")

    def range(self, one: float, other: float) -> str:
        """Write two values as a range."""
        return f"{self.text(one)} to {self.text(other)}"


def add_to_history(document: Path, folder: Path, label: str | None = None) -> Entry | None:
    """Append the figures of a results document to a history, whole or not at all.

    Args:
        document: Written by ``--results``.
        folder: Of the history, made where it is not there; it may be one of a branch.
        label: What was checked, such as a commit.

    Returns:
        The entry; None where the history has the same figures of the same label already, as after a repeated job.

    Raises:
        HarnessError: The document or the history cannot be read, or the document holds no figures of a whole run.
    """
    entry = _entry(read_document(document, field="RESULTS"), document, label)
    check_output_folder(folder, "--output", in_use=True)
    path = folder / FILE
    with locked(path):
        earlier = read_history(folder) if is_file(path) else []
        if label is not None and any(_same(entry, one) for one in earlier):
            return None
        lines = [one.model_dump_json(by_alias=True) for one in (*earlier, entry)]
        with whole_file(path) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return entry


def _same(one: Entry, other: Entry) -> bool:
    return one.model_copy(update={"added": other.added}) == other


def _entry(document: Document, path: Path, label: str | None) -> Entry:
    if document.verdict in ("error", "incomplete", "part"):
        raise HarnessError(
            f"a run whose verdict is '{document.verdict}' has no place in a history",
            file=path,
            field="verdict",
            remedy="add the document of a run that came to its end",
        )
    figures = tuple(_figures(document))
    if not figures:
        raise HarnessError(
            "it holds neither an AP nor a speed", file=path, field="runs", remedy="run -m accuracy or -m perf"
        )
    return Entry(
        added=datetime.now(UTC).isoformat(timespec="seconds"),
        label=label,
        model=document.model,
        data_sha256=None if document.data is None else document.data.sha256,
        weights_sha256=document.weights_sha256,
        onnx_sha256=document.onnx_sha256,
        verdict=document.verdict,
        environment=document.environment,
        figures=figures,
    )


def _figures(document: Document) -> Iterator[Figures]:
    for run in document.runs:
        of = run.device, run.precision
        for accuracy in run.accuracy:
            yield _of(*of, accuracy.batch_size, AP=accuracy.AP)
        for perf in run.perf:
            yield _of(*of, perf.batch_size, fps=perf.fps, interval=perf.interval)


def _of(device: str, precision: str, batch_size: int | None, **values: Any) -> Figures:  # noqa: ANN401 - of a record
    return Figures(device=device, precision=precision, batch_size=batch_size, **values)


def read_history(folder: Path) -> list[Entry]:
    """Read a history.

    Raises:
        HarnessError: There is none in the folder, or a line of it is broken; the message says which.
    """
    path = folder / FILE
    text = read_text(path, None, MOST_BYTES, remedy="make one: python -m harness history add RESULTS --output FOLDER")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError as error:
            raise not_valid(f"an entry of a history in line {number}", error, file=path, remedy=REMEDY) from error
    return found


def series_of(entries: Sequence[Entry]) -> list[Series]:
    """Sort the figures of a history into series that can be compared.

    An AP is of one data set; a measured speed of one machine and one stretch of work too.
    """
    found: dict[tuple[object, ...], Series] = {}
    for entry in entries:
        for one in entry.figures:
            for kind, value in _values(one):
                of = (entry.model, one.device, one.precision, one.batch_size)
                key = (*of, kind, entry.data_sha256, one.interval, kind == "fps" and entry.environment.get("machine"))
                series = found.setdefault(key, Series(*of, kind, [], []))
                series.entries.append(entry)
                series.values.append(value)
    return list(found.values())


def _values(one: Figures) -> Iterator[tuple[Kind, float]]:
    if one.AP is not None:
        yield "AP", one.AP
    if one.fps is not None:
        yield "estimated fps" if (one.interval or "").startswith(ESTIMATED) else "fps", one.fps
