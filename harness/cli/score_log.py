"""`score-log`: the figures of a training log, and what it cannot support."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cards.model import LARGEST_BATCH
from harness.checks.training.speed import WARM_UP
from harness.errors import HarnessError
from harness.report.escape import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.checks.training.log import LogScore
    from harness.exchange.training_record import TrainingLog
    from harness.faults.training.log import Figure, ReadFigure


def score_log(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The log.")],
    recipe: Annotated[
        str, typer.Option(metavar="CARD", help="Recipe that the training is said to follow: a name, or a .toml file.")
    ] = "centernet2_1x",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_BATCH, help="Images of an iteration, where the log does not say."),
    ] = None,
    warm_up: Annotated[
        int, typer.Option(min=0, max=10**9, help="Iterations at the start that do not count for the speed.")
    ] = WARM_UP,
    ap: Annotated[
        str | None, typer.Option("--ap", metavar="X", help="AP that somebody read from the log: is it what it says?")
    ] = None,
    fps: Annotated[str | None, typer.Option("--fps", metavar="X", help="Images a second, likewise.")] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="*_acc.log that the port's script made of this log, likewise.")
    ] = None,
) -> None:
    """Print AP, losses, learning rate and images per second of a training log, and what the log cannot support.

    It may be a log of detectron2 (coloured or not), its metrics.json, or the *_acc.log of the Ascend port. Values are
    read by their keys and never by their column. AP is a fraction. What cannot be supported is said and is no error.

    Figures that somebody has read from the log are held to it. For one that is not what the log says, the known mistake
    that gives it is named, such as another column, and the status is 1.

    Example: python -m harness score-log output/log.txt
    Example: python -m harness score-log output/log.txt --ap 60.1 --fps 2.86
    """
    from harness.cards import load_recipe
    from harness.checks.training.log import score_log as judge
    from harness.exchange.training_log import read_training_log
    from harness.faults.training import explain_figure

    log = read_training_log(file)
    score = judge(log, load_recipe(recipe), batch_size=batch_size, warm_up=warm_up)
    for line in (_heading(log, score), *_figures(log, score)):
        print(printable(line))
    for remark in log.remarks:
        print(f"note: {printable(remark)}")
    for reason in score.unsupported:
        print(f"cannot support {printable(reason)}")
    found = [explain_figure(log, score, figure, text) for figure, text in _given(ap, fps, summary)]
    for one in found:
        for line in _read(one):
            print(printable(line))
    if not all(one.is_right for one in found):
        raise typer.Exit(1)


def _given(ap: str | None, fps: str | None, summary: Path | None) -> list[tuple[Figure, str]]:
    """Return the figures that were read from the log by somebody else."""
    from harness.exchange.training_log import read_training_log

    found: list[tuple[Figure, str]] = [] if ap is None else [("AP", ap)]
    found += [] if fps is None else [("images/s", fps)]
    if summary is None:
        return found
    port = read_training_log(summary).summary
    if port is None:
        raise HarnessError(
            "it is no summary of the port", file=summary, field="--summary", remedy="give a *_acc.log or *_eval.log"
        )
    figures: tuple[tuple[Figure, str, float | None], ...] = (
        ("AP", "TrainAccuracy", port.accuracy),
        ("images/s", "ActualFPS", port.fps),
    )
    return found + [(figure, port.entries[key]) for figure, key, value in figures if value]


def _read(one: ReadFigure) -> Iterator[str]:
    """Yield what is to be said about a figure that was read by somebody else."""
    said = "the log supports none" if one.right is None else f"the log says {one.right:.4g}"
    if one.is_right:
        yield f"given {one.figure} {one.text}: right, {said}"
        return
    yield f"given {one.figure} {one.text}: not what the log says: {said}"
    for mistake, place in one.explained:
        yield f"  diagnosis: {mistake.description}: {place} ({mistake.id})"
    if not one.explained:
        yield "  diagnosis: unknown: no known mistake gives it"


def _heading(log: TrainingLog, score: LogScore) -> str:
    parts = [log.kind]
    if log.steps:
        parts.append(f"{len(log.steps)} records of iterations {log.steps[0].iteration} to {log.steps[-1].iteration}")
    parts += [] if score.batch_size is None else [f"batch size {score.batch_size}"]
    parts += [] if log.processes is None else [f"{log.processes} process{'es' if log.processes > 1 else ''}"]
    return ", ".join(parts)


def _figures(log: TrainingLog, score: LogScore) -> Iterator[str]:
    """Yield a line for each figure; of what is not there, a dash."""
    accuracy, last, speed, summary = score.accuracy, score.last, score.speed, log.summary
    if accuracy is not None:
        after = "" if accuracy.iteration is None else f" after iteration {accuracy.iteration}"
        others = ", ".join(f"{name} {value:.4f}" for name, value in accuracy.figures.items() if name != "AP")
        yield f"AP        {accuracy.figures['AP']:.4f}{after}" + (f"; {others}" if others else "")
    elif summary is not None and summary.accuracy:
        yield f"AP        {summary.accuracy:.4f}"
    else:
        yield "AP        -"
    if last is not None:
        yield f"losses    {', '.join(f'{name} {value:.4g}' for name, value in last.losses.items())}"
    else:
        yield "losses    -" if summary is None or summary.loss is None else f"losses    ActualLoss {summary.loss:.4g}"
    rate = None if last is None else last.learning_rate
    yield "lr        -" if rate is None or last is None else f"lr        {rate:.5g} at iteration {last.iteration}"
    if speed is None or score.batch_size is None:
        yield "images/s  -"
        return
    waits = ""
    if speed.data_seconds is not None:
        whole = score.batch_size / (speed.seconds + speed.data_seconds)
        waits = f"; {whole:.4g} where {speed.data_seconds:.3g} s of waiting for images are not within"
    yield (
        f"images/s  {speed.fps:.4g}, median of {speed.parts} parts ({speed.slowest:.4g} to {speed.fastest:.4g}) of "
        f"iterations {speed.first} to {speed.last}; {speed.seconds:.4g} s an iteration{waits}"
    )
