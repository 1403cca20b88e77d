"""Lines of a detectron2 log: values are read by their keys, with or without the terminal's colours.

A line of training is, after the logger's own beginning, which may be coloured,

``eta: 1 day, 2:03:04  iter: 19  total_loss: 8.6  loss_a: 1.1 …  time: 0.65  data_time: 0.01  lr: 9.9e-05  max_mem: 9M``

where keys come and go with the version, and an estimate of the time that is left may be one word or three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.exchange.training_record import LoggedAccuracy, LoggedStep, finite, fractions

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
KEY_AND_VALUE = re.compile(r"(?<!\w)([A-Za-z_]\w*): *([^\s:]+(?=\s|$))?")
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)")
SETTING = r"\b{}\b['\",:=\s]*(\d{{1,18}})\b"
BATCH_SIZE, PLANNED = (re.compile(SETTING.format(key)) for key in ("IMS_PER_BATCH", "MAX_ITER"))
STARTED = re.compile(r"Starting training from iteration (\d{1,18})\b")
PROCESSES = re.compile(r"(?:World size: |num_gpus=)(\d{1,18})\b")
SETTINGS = {"batch_size": BATCH_SIZE, "planned": PLANNED, "processes": PROCESSES, "started": STARTED}
LONGEST_LINE = 2**14
"""Characters of a line that is looked at; detectron2's lines of training have some hundred."""
TABLE = "Evaluation results for bbox:"
TABLE_LINES = 8
"""Lines after `TABLE` among which the table is looked for: other processes may write between them."""


@dataclass(frozen=True, slots=True)
class Found:
    """Contents of the lines of a log, in their order.

    Attributes:
        steps: An iteration stands as often as it was logged.
        accuracies: Evaluations.
        batch_size: Of the settings; None where they are not in the log.
        planned: Iterations that the settings ask for, likewise.
        processes: That train, likewise.
        started: Iterations done when the run was last started, likewise.
        damaged: Lines of training that are cut, or in which several run together.
        long: Lines that are too long to be looked at.
        cut_tables: Lines of evaluations whose table is not whole.
    """

    steps: tuple[LoggedStep, ...]
    accuracies: tuple[LoggedAccuracy, ...]
    batch_size: int | None
    planned: int | None
    processes: int | None
    started: int | None
    damaged: tuple[int, ...]
    long: tuple[int, ...]
    cut_tables: tuple[int, ...]


def plain_lines(text: str) -> list[str]:
    """Split a log into lines without colours; what a progress bar draws over stands on lines of its own."""
    return COLOUR.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")


def read_lines(lines: Sequence[str], file: Path) -> Found:
    """Read the lines of a log.

    Args:
        lines: As `plain_lines` gives them.
        file: For messages.

    Raises:
        HarnessError: A time, a rate, an iteration or an AP is none.
    """
    steps: list[LoggedStep] = []
    accuracies: list[LoggedAccuracy] = []
    settings: dict[str, int] = {}
    damaged, long, cut = [], [], []
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            long.append(number)
            continue
        settings.update(_settings(line))
        if "iter:" in line and "loss" in line:
            step = _step(line, number, file)
            damaged += [number] if step is None else []
            steps += [] if step is None else [step]
        elif TABLE in line:
            figures = _table(lines[number : number + TABLE_LINES], number, file)
            cut += [number] if figures is None else []
            iteration = steps[-1].iteration if steps else None
            accuracies += [] if figures is None else [LoggedAccuracy(number, iteration, figures)]
    return Found(
        steps=tuple(steps),
        accuracies=tuple(accuracies),
        **{name: settings.get(name) for name in SETTINGS},
        damaged=tuple(damaged),
        long=tuple(long),
        cut_tables=tuple(cut),
    )


def _settings(line: str) -> Iterator[tuple[str, int]]:
    """Yield the settings in a line; the last of a log are in force, since overrides are printed after files."""
    for name, pattern in SETTINGS.items():
        for value in pattern.findall(line):
            if int(value) > 0 or name == "started":
                yield name, int(value)


def _step(line: str, number: int, file: Path) -> LoggedStep | None:
    """Read a line of training; None where it is cut or holds two."""
    pairs = KEY_AND_VALUE.findall(line)
    values = {key: value for key, value in pairs if key in ("iter", "time", "data_time", "lr", "step_fps")}
    losses = {key: value for key, value in pairs if "loss" in key}
    # The rate stands behind the losses and the times: a line without it was cut before.
    if [key for key, _ in pairs].count("iter") != 1 or "lr" not in values or not losses:
        return None
    needed = [values["iter"], *losses.values(), *(values[key] for key in ("time", "data_time") if key in values)]
    if not all(map(NUMBER.fullmatch, needed)) or not values["iter"].isdecimal():
        return None

    def figure(key: str) -> float | None:
        value = values.get(key, "")
        return finite(float(value), key, file, number) if NUMBER.fullmatch(value) else None

    return LoggedStep(
        line=number,
        iteration=int(finite(float(values["iter"]), "iter", file, number)),
        losses={key: float(value) for key, value in losses.items()},
        learning_rate=figure("lr"),
        seconds=figure("time"),
        data_seconds=figure("data_time"),
        step_fps=figure("step_fps"),
    )


def _table(following: Sequence[str], number: int, file: Path) -> dict[str, float] | None:
    """Read the table of an evaluation, in percent, as fractions; None where it is not whole."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in following if line.startswith("|")]
    if len(rows) < 3 or len(rows[0]) != len(rows[2]) or "AP" not in rows[0]:
        return None
    if not all(map(NUMBER.fullmatch, rows[2])):
        return None
    return fractions({name: float(value) for name, value in zip(rows[0], rows[2], strict=True)}, file, number)
