"""The command line: one verb a stage, for those who convert on one host and infer on another.

Verbs import what they need when they run, so that help and `doctor` answer where PyTorch is missing.
"""

from __future__ import annotations

import sys

import typer

from harness.cli.check import check
from harness.cli.comparison import compare
from harness.cli.conversion import convert
from harness.cli.data import dataset, preprocess
from harness.cli.detections import decode, score
from harness.cli.diagnosis import diagnose
from harness.cli.installation import doctor
from harness.cli.network import export, infer
from harness.cli.training import train
from harness.errors import HarnessError

USAGE_ERROR = 2
"""What the argument parser ends with."""

app = typer.Typer(
    help="CenterNet conformance: the verdict on a device (check, as pytest -m accuracy gives it), or a stage alone.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for verb in (doctor, check, dataset, train, preprocess, export, convert, infer, decode, score, compare, diagnose):
    app.command()(verb)


def main() -> None:
    """Run the verb of the command line; status 4 where something that was given is missing or wrong."""
    try:
        app(prog_name="python -m harness")
    except HarnessError as error:
        print(error.message(), file=sys.stderr)
        sys.exit(4)
    except SystemExit as end:
        sys.exit(4 if end.code == USAGE_ERROR else end.code)
