"""`history add` and `history show`: figures over time, and the drift that no single gate sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import HarnessError
from harness.report.escape import printable

if TYPE_CHECKING:
    from rich.table import Table

    from harness.report.history import Entry, Series

WIDTH = 140


def add(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Results document, as --results writes.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the history; made where it is not there.")],
    label: Annotated[
        str | None,
        typer.Option(
            help="What was checked, such as a commit; the same figures of the same label are added once.",
            envvar=["GITHUB_SHA", "CI_COMMIT_SHA"],
        ),
    ] = None,
) -> None:
    """Append the figures of a results document to a history: one line of JSON in FOLDER/history.jsonl.

    The folder is yours to keep, such as in a branch. Runs that did not come to their end are refused.

    Example: python -m harness history add results.json --output history --label v1.2
    """
    from harness.report.history import add_to_history

    entry = add_to_history(results, output, label)
    if entry is None:
        print(f"{printable(str(output))}: has the same figures of {printable(str(label))} already")
        return
    count = len(entry.figures)
    print(
        f"{printable(str(output))}: {printable(str(entry))}, {entry.verdict}, {count} figure{'s' if count > 1 else ''}"
    )


def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the history.")],
    since: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="Leave out what was added before this one, such as a fall that is meant."),
    ] = None,
) -> None:
    """Print every AP and every speed over time, and where its level changed, be it in steps that no gate sees.

    An AP is compared on the same images, a measured speed on a machine of the same kind. A change is found by a
    self-starting CUSUM: 0.2 points of AP, or 5 % of a speed, are found four runs after 30 that were alike, six after
    10; 0.05 points a run after six. By chance it finds one in about 465 runs where the figures scatter as widely as
    5 %, and hardly any where they do not.

    Ends with status 1 where an AP or a speed fell and did not rise since, 0 otherwise.

    Example: python -m harness history show history
    """
    from rich.console import Console

    from harness.report.history import read_history, series_of

    entries = _since(read_history(folder), since, folder)
    found = series_of(entries)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDTH, highlight=False)
    console.print(_table(found))
    fallen = False
    for one in found:
        shifts = one.shifts()
        for shift in shifts:
            console.print(printable(f"{_name(one)}: {one.told(shift)}"), markup=False, soft_wrap=True)
        fallen = fallen or (bool(shifts) and shifts[-1].is_fall)
    print(f"{len(entries)} runs; " + ("a figure has fallen" if fallen else "no figure has fallen"))
    if fallen:
        raise typer.Exit(1)


def _since(entries: list[Entry], label: str | None, folder: Path) -> list[Entry]:
    if label is None:
        return entries
    for index, entry in enumerate(entries):
        if label in (entry.label, entry.added):
            return entries[index:]
    raise HarnessError(
        f"no run is labelled '{label}'", file=folder, field="--since", remedy="give a label that the history has"
    )


def _name(one: Series) -> str:
    size = "" if one.batch_size is None else f" at batch size {one.batch_size}"
    return f"{one.model} on {one.device} {one.precision}{size}"


def _table(series: list[Series]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "device", "precision", "batch"):
        table.add_column(heading)
    table.add_column("figure")
    for heading in ("runs", "first", "lowest", "highest", "last"):
        table.add_column(heading, justify="right")
    for one in series:
        numbers = (one.values[0], min(one.values), max(one.values), one.values[-1])
        texts = (one.model, one.device, one.precision, "" if one.batch_size is None else str(one.batch_size), one.kind)
        table.add_row(*(escape(printable(text)) for text in texts), str(len(one.values)), *map(one.text, numbers))
    return table
