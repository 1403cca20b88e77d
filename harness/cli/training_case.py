"""`training-case`: all that a training elsewhere needs to answer for one step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion
from harness.files import check_output_folder
from harness.report.escape import printable


def training_case(
    output: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    model: Annotated[
        str, typer.Option(metavar="CARD", help="Model card of the two-stage family.", autocompletion=completion.models)
    ] = "centernet2_narrow",
) -> None:
    """Write weights, images, objects, configuration and dump.py for a training step in another code or on another host.

    Its README says what to do there; pytest -m training --outputs ANSWERS judges what comes back.

    Example: python -m harness training-case --output case
    """
    from harness.exchange.training_case.write import write_training_case
    from harness.run.training.options import parse_training_options

    check_output_folder(output, "--output")
    options = parse_training_options(model=model)
    write_training_case(model, options.network, output)
    print(printable(output))
