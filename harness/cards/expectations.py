"""Known failures of a device, in a file beside its card: ``NAME.expectations.toml``."""

from __future__ import annotations

import datetime
import fnmatch
import re
from pathlib import Path

from pydantic import Field, model_validator

from harness.cards.schema import Record, parse, read_toml


class Expectation(Record):
    """A known failure with reason and source.

    A test that is expected to fail must fail, and in the stage that is stated.
    """

    test: str
    """Glob of ``module.py::test_name``."""
    stage: str
    precision: str
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
        """Position of the entry as FILE:LINE."""
        return f"{self.file}:{self.line}"

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
    if not path.exists():
        return ()
    entries = parse(_File, read_toml(path), path).expectation
    headers = re.finditer(r"^\s*\[\[expectation\]\]", path.read_text(encoding="utf-8"), re.MULTILINE)
    lines = [path.read_text(encoding="utf-8").count("\n", 0, header.end()) + 1 for header in headers]
    return tuple(
        entry.model_copy(update={"file": str(path), "line": line}) for entry, line in zip(entries, lines, strict=True)
    )
