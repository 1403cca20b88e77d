"""The scoreboard has a line a stored run, and is no judge of what was only timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.support.example_records import accuracy, document, run
from harness.errors import HarnessError
from harness.report.document import write_document
from harness.report.records import Latency, Perf
from harness.report.scoreboard import check_scoreboard, write_scoreboard

INDEX = """
[[table]]
title = "Chips"
text = "All of them."
{}"""
DOCUMENT = """
[[table.documents]]
file = "measured/{}.json"
date = "2026-11"
command = "pytest -m accuracy"
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "measured").mkdir()
    perf = Perf(batch_size=4, fps=20.0, latency_ms=Latency(p50=1.0, p90=1.0, p99=1.0), interval="estimated: a model")
    timed = run().model_copy(update={"perf": (perf,), "execution": "simulated", "stages": (), "verdict": "conforms"})
    write_document(document(run(accuracy(0.5))), tmp_path / "measured" / "judged.json")
    write_document(document(timed), tmp_path / "measured" / "timed.json")
    names = ("judged", "timed", "timed")
    (tmp_path / "measured" / "tables.toml").write_text(INDEX.format("".join(map(DOCUMENT.format, names))))
    return tmp_path


def test_every_stored_run_has_one_line(reports: Path) -> None:
    html, markdown = write_scoreboard(reports)
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("| chip")]
    assert [row.split(" | ")[4:8] for row in rows] == [
        ["conforms", "0.5000", "0.5000", "-"],
        ["estimated", "-", "-", "20.0"],
    ]
    assert "| simulated |" in rows[1]
    assert "estimated: a model" in rows[1]
    assert html.read_text().count("<tr>") == 3
    assert check_scoreboard(reports) == [html, markdown]


def test_page_that_is_out_of_date_is_an_error(reports: Path) -> None:
    _, markdown = write_scoreboard(reports)
    markdown.write_text(markdown.read_text().replace("0.5000", "0.6000", 1))
    with pytest.raises(HarnessError, match=r"line \d+ is not what the stored figures give"):
        check_scoreboard(reports)
