"""The command line: one verb a stage and one file a verb, for those who convert on one host and infer on another.

Verbs import what they need when they run, so that help and `doctor` answer where PyTorch is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from harness.cli import (
    card,
    check,
    compare,
    completion,
    convert,
    dataset,
    decode,
    diagnose,
    doctor,
    export,
    history,
    infer,
    last_resort,
    merge,
    preprocess,
    report,
    score,
    score_log,
    train,
    training_case,
)
from harness.errors import HarnessError
from harness.run.signals import received_signals

MODULE = "python -m harness"
USAGE_ERROR = 2
"""Exit status of the argument parser."""

VERBS: tuple[Callable[..., None], ...] = (
    doctor.doctor,
    check.check,
    dataset.dataset,
    train.train,
    training_case.training_case,
    preprocess.preprocess,
    export.export,
    card.card,
    convert.convert,
    infer.infer,
    decode.decode,
    score.score,
    score_log.score_log,
    compare.compare,
    diagnose.diagnose,
    merge.merge,
    report.report,
)
"""In the order of the help; the file of each is named after it, with ``_`` for ``-``."""

OVER_TIME = (history.add, history.show)
"""Verbs below ``history``."""


def make_app(*, add_completion: bool) -> typer.Typer:
    """Make the command line.

    Args:
        add_completion: Whether it has options to install and to show completion, which shells have for one word only.
    """
    made = typer.Typer(
        help="CenterNet conformance: the verdict on a device (check, or pytest -m accuracy), and each stage alone.",
        add_completion=add_completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    for verb in VERBS:
        made.command()(last_resort.guarded(verb))
    below = typer.Typer(help="Figures of results documents over time, and where they fall.", no_args_is_help=True)
    for verb in OVER_TIME:
        below.command()(last_resort.guarded(verb))
    made.add_typer(below, name="history")
    return made


app = make_app(add_completion=False)


def main(program: str = MODULE) -> None:
    """Run the verb of the command line.

    Args:
        program: As the user calls it: the module, or the command of one word, which shells can complete.

    The exit status is 4 where something that was given is missing or wrong, 130 after SIGINT and 143 after SIGTERM.
    Before that the verb undoes what is half done.
    """
    with received_signals() as received:
        status = _run(program)
    if received.number is not None:
        print(f"ended by {received.number.name}", file=sys.stderr)
    sys.exit(received.status or status)


def _run(program: str) -> int | str | None:
    """Run the verb and return the exit status, as `sys.exit` takes it."""
    try:
        with last_resort.at_hand():
            last_resort.require_current_folder()
            if program == MODULE:
                app(prog_name=program)
            else:
                with completion.whole_words():
                    make_app(add_completion=True)(prog_name=program)
    except HarnessError as error:
        print(error.message(), file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return check.INTERRUPTED
    except SystemExit as end:
        if end.code == USAGE_ERROR:
            print(f"  remedy: see '{program} --help', or --help behind the verb", file=sys.stderr)
            return 4
        return end.code
    return 0
