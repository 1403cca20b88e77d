"""`report`: pages that are written from stored results documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError
from harness.report.escape import printable


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RESULTS]...", help="Results documents, as --results writes.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pages of these documents.")] = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="Write measured.md and the scoreboard from what is stored in reports/.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: end with status 4 where the page is out of date.")
    ] = False,
) -> None:
    """Write a page for people of one results document or several: verdict and why, AP, speed, stages, diagnosis.

    DIR then holds report.html (one file, without scripts or anything from elsewhere), report.md, the tables
    accuracy.csv, speed.csv, stages.csv and classes.csv, and badge.json for shields.io. A verdict does not change the
    exit status. Pictures are drawn by the run itself, with --report. Several documents of the same are also a trend, in
    the order in which they are given.

    With --measured, the pages of this project's own figures are written, or checked: measured.md and the scoreboard.

    Example: python -m harness report results.json --output report
    Example: python -m harness report --measured --check
    """
    if measured:
        _measured(results or [], output, check=check)
        return
    if not results or output is None:
        raise HarnessError(
            "nothing to report" if not results else "nowhere to write to",
            field="RESULTS" if not results else "--output",
            remedy="give results documents and --output DIR, or --measured",
        )
    from harness.report.baseline import read_document
    from harness.report.page import write_report
    from harness.report.sections import Named

    documents = [Named(path.stem, read_document(path, field="RESULTS")) for path in results]
    for path in write_report(documents, output):
        print(printable(path))


def _measured(results: list[Path], output: Path | None, *, check: bool) -> None:
    from harness.paths import data_path
    from harness.report.measured import check_measured, write_measured
    from harness.report.scoreboard import check_scoreboard, write_scoreboard

    if results or output is not None:
        raise HarnessError("it takes no documents, and has its own place", field="--measured", remedy="leave them out")
    reports = data_path("reports")
    pages = [(check_measured if check else write_measured)(reports)]
    pages += (check_scoreboard if check else write_scoreboard)(reports)
    for page in pages:
        print(f"{page} {'is up to date' if check else 'is written'}")
