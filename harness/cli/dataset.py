"""`dataset`: the embedded images, written as files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Limit
from harness.cli.progress import progress
from harness.files import check_output_folder
from harness.report.escape import printable


class Split(StrEnum):
    """Halves of the embedded data set."""

    VAL = "val"
    TRAIN = "train"


def dataset(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the folder of the data set is made.")],
    split: Annotated[Split, typer.Option(help="Which half.")] = Split.VAL,
    limit: Limit = None,
) -> None:
    """Write the embedded data set in COCO's layout, to look at or to give to other tools; print the folder.

    Example: python -m harness dataset --split val --output data
    """
    from harness.data.synthetic import load_spec, materialise

    check_output_folder(output, "--output", in_use=True)
    with progress(f"embedded data set, {split.value}") as report:
        folder = materialise(load_spec(), split.value, output, limit=limit, progress=report)
    print(printable(folder))
