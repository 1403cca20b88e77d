"""`merge`: the verdict on a run whose shards were run apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError
from harness.report.escape import printable_lines


def merge(
    shards: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS...", help="Documents of all shards, in any order.", show_default=False),
    ] = None,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Results document (JSON) of the run.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Page for people (HTML, Markdown), tables and a badge.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Earlier results document: fail where this run is worse.")
    ] = None,
    allow_other_weights: Annotated[
        bool, typer.Option("--allow-other-weights", help="Hold a new training to the baseline of an older one.")
    ] = False,
) -> None:
    """Put the shards of a run together, as pytest --shard I/N --results FILE wrote them, and judge the run.

    The document and the verdict are those of the run in one piece, but for environment, times and speeds. Beside each
    document lies a file .part.npz, which is read as well. No device, model or image is needed.

    Ends with status 0 where the devices conform, 1 where not, 4 where a shard is missing, given twice, damaged or of
    another run.

    Example: python -m harness merge shard-1.json shard-2.json --results results.json
    """
    if not shards:
        remedy = "give the documents of all shards of one run"
        raise HarnessError("nothing to merge", field="RESULTS", remedy=remedy)
    from harness.checks.verdict import EXIT_STATUS
    from harness.cli.check import show
    from harness.report.document import check_results
    from harness.report.folder import check_report_folder
    from harness.run.merging import MergeOptions
    from harness.run.merging import merge as merge_parts
    from harness.run.parts import read_parts

    if results is not None:
        check_results(results)
    if report is not None:
        check_report_folder(report, "--report")
    options = MergeOptions(results, report, baseline, allow_other_weights)
    document = merge_parts(read_parts(shards, results), options, lambda text: print(printable_lines(text)))
    show(document)
    raise typer.Exit(EXIT_STATUS[document.verdict])
