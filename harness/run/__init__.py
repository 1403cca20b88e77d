"""One check from start to end: subject, reference, pipeline, session, and `check`, which runs them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.records import Document
    from harness.run.options import CheckOptions
    from harness.run.progress import ShowProgress


def check(options: CheckOptions, say: Callable[[str], None] = print, progress: ShowProgress | None = None) -> Document:
    """Run every stage of accuracy on every device at every batch size, and write the document where it is asked for.

    The document is that of ``pytest -m accuracy`` with the same options, but for times and paths.

    Args:
        options: From `harness.run.options.parse_options`.
        say: Called with headings, failures and signs of life.
        progress: Shows how far long work is; by default in lines that `say` gets.

    Raises:
        HarnessError: Something that was given is missing or wrong; the document, where asked for, says so, too.
        Interrupted: The user pressed Ctrl-C; the document, where asked for, holds what was found until then.
    """
    from harness.run.checking import run_check  # here, since the stages import this package

    return run_check(options, say, progress)


__all__ = ["check"]
