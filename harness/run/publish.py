"""Page of a run for people, beside the terminal, and its summary in GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.files.reading import reason_of
from harness.report.pictures import Pictures
from harness.report.records import Document
from harness.report.terminal import SUMMARY


def publish(document: Document, name: str, folder: Path | None, gather: Callable[[], Pictures]) -> Document:
    """Write the page of a run where it is asked for, and into the summary of a step where GitHub Actions runs it.

    Args:
        document: Of the run.
        name: What it is called on the page.
        folder: Of the page; None where none is asked for.
        gather: Draws the pictures of the page; called where one is asked for.

    Returns:
        The document; with the verdict `error` where something could not be written.
    """
    summary = os.environ.get(SUMMARY)
    if folder is None and not summary:
        return document
    from harness.report.page import render, write_report  # takes the catalogue of mistakes along
    from harness.report.sections import Named

    try:
        if folder is not None:
            write_report([Named(name, document, gather())], folder, "--report")
        if summary:
            _append(render([Named(name, document)], "report.md.jinja"), Path(summary))
    except HarnessError as error:
        return document.model_copy(update={"problems": (*document.problems, str(error)), "verdict": "error"})
    return document


def _append(text: str, file: Path) -> None:
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(text + "\n")
    except OSError as error:
        raise HarnessError(
            f"the summary cannot be written: {reason_of(error)}",
            file=file,
            field=SUMMARY,
            remedy="leave the variable to GitHub Actions, or unset it",
        ) from error
