"""`report`: pages that are written from stored results documents."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.errors import HarnessError


def report(
    measured: Annotated[
        bool, typer.Option("--measured", help="Write reports/measured.md from the figures stored in reports/.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: end with status 4 where the page is out of date.")
    ] = False,
) -> None:
    """Write the page of measured figures from the stored results documents, or check that it is up to date.

    Example: python -m harness report --measured --check
    """
    from harness.paths import data_path
    from harness.report.measured import check_measured, write_measured

    if not measured:
        raise HarnessError("nothing to report", field="--measured", remedy="give --measured")
    page = (check_measured if check else write_measured)(data_path("reports"))
    print(f"{page} {'is up to date' if check else 'is written'}")
