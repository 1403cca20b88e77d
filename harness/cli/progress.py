"""Progress of long work: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.report.escape import printable

LINES = 20
"""Plain lines for the whole of the work."""


class Report(Protocol):
    """Told by the work of its progress."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is done, and a few words on how it goes."""


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show the progress of the work in the block, which calls what it gets."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(what)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:

        def report(done: int, total: int, note: str = "") -> None:
            # Not before the first call: work that is done already shows nothing.
            task = bars.task_ids[0] if bars.task_ids else bars.add_task(what)
            bars.update(task, completed=done, total=total, description=f"{what} {note}".rstrip())

        yield report


@contextmanager
def signs_of_life() -> Iterator[None]:
    """Show on standard error what the drivers of the toolchains, and the cache, say while they are at work."""
    logger, handler = logging.getLogger("harness"), logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.setLevel(logging.INFO)
    handler.setFormatter(_Escaping())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Escaping(logging.Formatter):
    """Shows what drivers say, in which names of a user's files stand, as one line each."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Lines:
    def __init__(self, what: str) -> None:
        self.what = what
        self.shown = 0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        reached = done * LINES // total
        if reached > self.shown:
            self.shown = reached
            print(f"{self.what}: {done} of {total} {note}".rstrip(), file=sys.stderr, flush=True)
