"""Known failures of a device.

Those in force are in a file that the user gives, or beside a card of this project's own: ``NAME.expectations.toml``.
What lies beside another card is a proposal of its author.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from harness.cards.schema import TOML_BYTES, Record, parse, read_toml
from harness.errors import HarnessError
from harness.files import read_text

MOST_DAYS = 366
"""Days from today to the last on which an entry may hold."""


class Expectation(Record):
    """A known failure with reason and source.

    A test that is expected to fail must fail, and in the stage that is stated.
    """

    test: str
    """Glob of ``module.py::test_name``."""
    stage: str
    precision: str
    device: str | None = None
    """Name of the device; None for every device of the run, or for the one of the card that it lies beside."""
    batch_size: int | None = None
    """Batch size of the failure; None for every batch size."""
    reason: str = Field(min_length=1)
    source: str = Field(min_length=1)
    since: str
    until: str
    """Last day (YYYY-MM-DD) on which the entry holds without a new review."""
    file: str = ""
    line: int = 0

    @model_validator(mode="after")
    def _date(self) -> Expectation:
        datetime.date.fromisoformat(self.until)
        return self

    @property
    def place(self) -> str:
        """Position of the entry as FILE:LINE, or its file where the line is not known."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def matches(self, test: str, precision: str, batch_size: int | None) -> bool:
        """Tell whether the entry applies to ``module.py::test_name`` at this precision and batch size."""
        return (
            fnmatch.fnmatchcase(test, self.test)
            and self.precision == precision
            and self.batch_size in (None, batch_size)
        )

    def expired(self, today: datetime.date) -> bool:
        """Tell whether the last day of the entry lies before `today`."""
        return datetime.date.fromisoformat(self.until) < today


class _File(Record):
    expectation: tuple[Expectation, ...] = ()


def load_expectations(card_file: Path) -> tuple[Expectation, ...]:
    """Load the expectations beside a device card; none if there is no file.

    Raises:
        HarnessError: An entry has an unknown key, a wrong type or an impossible value.
    """
    path = card_file.with_name(f"{card_file.stem}.expectations.toml")
    return read_expectations(path) if path.exists() else ()


def read_expectations(path: Path) -> tuple[Expectation, ...]:
    """Read a file of expectations.

    Raises:
        HarnessError: The file is missing, or an entry has an unknown key, a wrong type or an impossible value.
    """
    entries = parse(_File, read_toml(path), path).expectation
    text = read_text(path, None, TOML_BYTES)
    headers = re.finditer(r"^\s*\[\[expectation\]\]", text, re.MULTILINE)
    lines = [text.count("\n", 0, header.end()) + 1 for header in headers]
    if len(lines) != len(entries):  # written in another way than as tables
        lines = [0] * len(entries)
    return tuple(
        entry.model_copy(update={"file": str(path), "line": line}) for entry, line in zip(entries, lines, strict=True)
    )


def require_soon(entries: Sequence[Expectation], today: datetime.date) -> tuple[Expectation, ...]:
    """Return entries that are to be in force, each of which comes up for review within a year.

    Raises:
        HarnessError: One holds for longer.
    """
    last = today + datetime.timedelta(days=MOST_DAYS)
    for place, entry in enumerate(entries):
        if datetime.date.fromisoformat(entry.until) > last:
            raise HarnessError(
                f"{entry.until} is more than {MOST_DAYS} days ahead",
                file=entry.file,
                field=f"expectation.{place}.until",
                remedy=f"give a day up to {last}, and look at the failure again until then",
            )
    return tuple(entries)
