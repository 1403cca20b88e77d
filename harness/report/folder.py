"""The folder of a report: its files, and whether one may be written there."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import HarnessError
from harness.files import check_output_folder, check_replaceable, is_file

FILES = ("report.html", "report.md", "accuracy.csv", "speed.csv", "stages.csv", "classes.csv", "badge.json")
"""Of a report."""
OURS = re.compile(rb"<!doctype html>\s*<!-- conformance report -->")
"""Beginning of an earlier page."""


def check_report_folder(folder: Path, field: str) -> None:
    """Check the place of a report before the work: an earlier report is replaced, and no other file.

    Raises:
        HarnessError: It is no folder, may not be written, or holds other files by the names of a report's.
    """
    check_output_folder(folder, field, in_use=True)
    check_replaceable(folder / FILES[0], field, OURS, "an earlier report")
    others = [name for name in FILES if is_file(folder / name)]
    if others and others[0] != FILES[0]:
        raise HarnessError(
            "the file that is there is of no earlier report, and is not replaced",
            file=folder / others[0],
            field=field,
            remedy="name another folder, or remove this file",
        )
