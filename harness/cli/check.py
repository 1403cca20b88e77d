"""`check`: the verdict on a device, as ``pytest -m accuracy`` gives it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.options import Coco, Limit, Model, Weights
from harness.cli.progress import progress, signs_of_life
from harness.errors import HarnessError
from harness.report.escape import printable_lines

if TYPE_CHECKING:
    from harness.report.records import Document

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def _take_stated(context: typer.Context, config: Path | None) -> Path | None:
    """Make what a file states the defaults of the options."""
    from harness.run.options_file import stated_options

    context.default_map = stated_options(config)
    return config


def _overrule(context: typer.Context, option: typer.CallbackParam, value: bool) -> bool:
    """Let an option on the command line, which is read first, win over its opposite in a file."""
    from harness.run.options_file import OPPOSITES

    name = str(option.name)
    source = context.get_parameter_source(name)
    if value and source is not None and source.name == "COMMANDLINE" and context.default_map:
        context.default_map = {key: one for key, one in context.default_map.items() if key != OPPOSITES[name]}
    return value


def check(
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME[,NAME]",
            help="Devices to check; 'doctor' lists them.",
            autocompletion=completion.devices,
        ),
    ] = "onnxruntime",
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX to run instead of an export.")] = None,
    coco: Coco = None,
    limit: Limit = None,
    batch_sizes: Annotated[
        str | None, typer.Option(metavar="N[,N]", help="Batch sizes, each with its AP; by default the card's.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Precision; by default the first on the device's card.",
            autocompletion=completion.precisions,
        ),
    ] = None,
    calibration_images: Annotated[
        int | None,
        typer.Option(metavar="N", help="Images that int8 takes its ranges from, spread over the data set."),
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Outputs of every image, made on another host; nothing is run.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Results document (JSON), written also where the check fails.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Page for people (HTML, Markdown), tables and a badge.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Earlier results document: fail where this check is worse.")
    ] = None,
    allow_other_weights: Annotated[
        bool, typer.Option("--allow-other-weights", help="Hold a new training to the baseline of an older one.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="OLD", help="ONNX, weights, or a second device: fail where the model is slower than that."
        ),
    ] = None,
    max_slowdown: Annotated[
        str | None,
        typer.Option(
            metavar="N%", help="Time that it may take longer; by default 5% than --against, 10% than --baseline."
        ),
    ] = None,
    expectations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Known failures (TOML): each must fail as it says.")
    ] = None,
    reuse: Annotated[
        bool,
        typer.Option("--reuse", callback=_overrule, help="Take outputs of the devices, too, that earlier runs stored."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", callback=_overrule, help="Take nothing that earlier runs stored.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="One of N parts of the images; 'merge' gives the verdict on all.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=_take_stated,
            help="These options, without the dashes (TOML); by default [tool.centernet-conformance] of the nearest "
            "pyproject.toml. The command line wins.",
        ),
    ] = None,
) -> None:
    """Check devices against the reference: contract, heads, decisions and AP at every batch size.

    Ends with status 0 where they conform, 1 where not, 4 where something that was given is missing or wrong.

    Example: python -m harness check --device onnxruntime --limit 8 --results results.json
    """
    from harness.checks.verdict import EXIT_STATUS
    from harness.run import check as run_check
    from harness.run.checking import Interrupted
    from harness.run.conclude import refuse
    from harness.run.options import parse_options

    try:
        options = parse_options(
            device=device,
            model=model,
            weights=weights,
            onnx=onnx,
            coco=coco,
            limit=limit,
            batch_sizes=batch_sizes,
            precision=precision,
            calibration_images=calibration_images,
            outputs=outputs,
            results=results,
            report=report,
            baseline=baseline,
            allow_other_weights=allow_other_weights,
            against=against,
            max_slowdown=max_slowdown,
            expectations=expectations,
            reuse=reuse,
            fresh=fresh,
            shard=shard,
        )
    except HarnessError as error:
        raise refuse(model, error, results) from error
    with signs_of_life():
        try:
            document = run_check(options, _say, progress)
        except Interrupted as interrupted:
            show(interrupted.document)
            raise typer.Exit(INTERRUPTED) from None
        except KeyboardInterrupt:  # before there was anything to show
            raise typer.Exit(INTERRUPTED) from None
    show(document)
    raise typer.Exit(EXIT_STATUS[document.verdict])


def _say(text: str) -> None:
    """Print a header, or what a device raised or answered, in which its own words stand."""
    print(printable_lines(text))


def show(document: Document) -> None:
    """Print the summary of a run, in colours on a terminal."""
    from harness.report.terminal import TITLE, summary

    print(f" {TITLE} ".center(80, "="))
    coloured = sys.stdout.isatty()
    for line in summary(document):
        typer.echo(typer.style(line.text, fg=line.colour, bold=line.bold) if coloured else line.text)
