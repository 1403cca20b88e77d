"""Measured figures come from stored documents and rows alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.support.example_records import accuracy, document, run
from harness.errors import HarnessError
from harness.report.document import write_document
from harness.report.measured import check_measured, write_measured

DOCUMENT_TABLE = """\
[[table]]
title = "Chips"
text = "All of them."

[[table.documents]]
file = "measured/chip.json"
date = "2026-11"
command = "pytest -m accuracy"
"""
ROWS = """
[[table]]
title = "Others"
text = "By hand."
columns = ["device", "AP"]
rows = [["other", "0.5000"]]
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "measured").mkdir()
    write_document(document(run(accuracy(0.5))), tmp_path / "measured" / "chip.json")
    (tmp_path / "measured" / "tables.toml").write_text(DOCUMENT_TABLE + ROWS + 'origin = "2026-11"\n')
    return tmp_path


def test_page_holds_the_figures_and_where_they_come_from(reports: Path) -> None:
    page = write_measured(reports).read_text()
    assert "| `chip` | silicon | `tiny` | fp32 | 1 | 9 | 0.5000 | 0.5000 | 0.0005 |  | conforms |" in page
    assert "- `measured/chip.json`, 2026-11: `pytest -m accuracy`" in page
    assert "| other | 0.5000 |\n\nOrigin: 2026-11." in page
    assert check_measured(reports) == reports / "measured.md"


def test_page_that_is_out_of_date_is_an_error(reports: Path) -> None:
    page = write_measured(reports)
    page.write_text(page.read_text().replace("0.5000", "0.6000", 1))
    with pytest.raises(HarnessError, match=r"line \d+ is not what the stored figures give"):
        check_measured(reports)


def test_rows_without_an_origin_are_an_error(reports: Path) -> None:
    (reports / "measured" / "tables.toml").write_text(ROWS)
    with pytest.raises(HarnessError, match="rows need an origin"):
        write_measured(reports)


def test_rows_that_a_command_wrote_become_a_table(reports: Path) -> None:
    table = '[[table]]\ntitle = "Bad inputs"\ntext = "All."\nwritten = "measured/bad.json"\n'
    (reports / "measured" / "tables.toml").write_text(table)
    file = reports / "measured" / "bad.json"
    file.write_text('{"columns": ["format", "mutants"], "rows": [["card", 3]], "origin": "today"}')
    page = write_measured(reports).read_text()
    assert "## Bad inputs\n\nAll.\n\n| format | mutants |\n| --- | --- |\n| card | 3 |\n\nOrigin: today.\n" in page
    file.write_text('{"columns": [], "rows": [], "origin": "today"}')
    with pytest.raises(HarnessError, match="not a file of rows"):
        write_measured(reports)
