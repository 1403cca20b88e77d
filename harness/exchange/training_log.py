"""Training logs of others: of detectron2, coloured or not, its ``metrics.json``, and summaries of the Ascend port."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data.dataset import first_few
from harness.errors import HarnessError
from harness.exchange.detectron2_log import Found, plain_lines, read_lines
from harness.exchange.training_record import (
    REMEDY,
    LoggedAccuracy,
    LoggedStep,
    PortSummary,
    TrainingLog,
    finite,
    fractions,
)
from harness.files import read_regular

LOG_BYTES = 2**28
ENTRY = re.compile(r"(\w+) = ?(.*)")
"""Line of a summary; where the script found nothing, nothing stands behind the sign."""
OF_SUMMARY = {"CaseName", "RankSize", "BatchSize"}
AVERAGE_PRECISION = "bbox/AP"
KINDS = "a log of detectron2, a metrics.json (JSON lines), or the *_acc.log of the Ascend port"


def read_training_log(file: Path) -> TrainingLog:
    """Read a training log of any of the kinds.

    A last line that does not end is taken for cut and left out, since half a number is a number too.

    Raises:
        HarnessError: The file is missing, too large, empty, binary, or no such log, or a figure in it cannot be one.
    """
    content = read_regular(file, None, LOG_BYTES)
    if not content.strip():
        raise HarnessError("the file is empty", file=file, remedy=f"give {KINDS}")
    remarks = ("it has bytes that are 0, as where processes write over each other",) if b"\0" in content else ()
    text = content.replace(b"\0", b"\n").decode("utf-8", errors="replace")
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _tidy(_from_json(text, file, remarks))
    lines = plain_lines(text)
    if lines[-1].strip():
        remarks = (*remarks, f"line {len(lines)}, the last, does not end and is left out")
    whole = lines[:-1]
    entries = {match[1]: match[2] for line in whole if (match := ENTRY.fullmatch(line.strip()))}
    if set(entries) >= OF_SUMMARY:
        return replace(_summary(entries, file), remarks=remarks)
    found = read_lines(whole, file)
    log = _from_lines(found, whole, file)
    return _tidy(replace(log, remarks=(*remarks, *log.remarks)), found.started)


def _from_lines(found: Found, lines: Sequence[str], file: Path) -> TrainingLog:
    remarks = [
        f"left out, {what}: {len(numbers)} in all, line {first_few(numbers)}"
        for numbers, what in (
            (found.damaged, "since lines of training are cut, or hold two that ran together"),
            (found.long, "since lines are too long to be of a training log"),
            (found.cut_tables, "since a table of AP is not whole"),
        )
        if numbers
    ]
    return TrainingLog(
        file,
        "detectron2 log",
        steps=found.steps,
        accuracies=found.accuracies,
        batch_size=found.batch_size,
        processes=found.processes,
        planned=found.planned,
        running_mean=any("d2.utils.events" in line for line in lines),
        remarks=tuple(remarks),
    )


def _from_json(text: str, file: Path, known: tuple[str, ...]) -> TrainingLog:
    steps: list[LoggedStep] = []
    accuracies: list[LoggedAccuracy] = []
    remarks = list(known)
    lines = text.lstrip("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if number == len(lines):
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                remarks.append(f"line {number}, the last, is cut and is left out")
                continue
        values = _object(line, number, file)
        iteration = int(_figure(values, "iteration", number, file))
        losses = {key: _number(values, key, number, file) for key in values if "loss" in key}
        if losses:
            of_step = (_optional(values, key, number, file) for key in ("lr", "time", "data_time", "step_fps"))
            steps.append(LoggedStep(number, iteration, losses, *of_step))
        if AVERAGE_PRECISION in values:
            accuracies.append(LoggedAccuracy(number, iteration, _accuracy(values, number, file)))
    return TrainingLog(file, "metrics.json", tuple(steps), tuple(accuracies), remarks=tuple(remarks))


def _object(line: str, number: int, file: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        cause = f"no JSON: {str(error).partition(':')[0]}"
        raise HarnessError(cause, file=file, field=f"line {number}", remedy=REMEDY) from error
    if not isinstance(values, dict) or "iteration" not in values:
        raise HarnessError("no object with 'iteration'", file=file, field=f"line {number}", remedy=f"give {KINDS}")
    return values


def _number(values: Mapping[str, Any], key: str, number: int, file: Path) -> float:
    """Return a number of a JSON object, which may be NaN or infinite."""
    value = values[key]
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # a whole number of some hundred digits
        pass
    raise HarnessError(f"'{key}' is no number", file=file, field=f"line {number}", remedy=REMEDY)


def _figure(values: Mapping[str, Any], key: str, number: int, file: Path) -> float:
    return finite(_number(values, key, number, file), key, file, number)


def _optional(values: Mapping[str, Any], key: str, number: int, file: Path) -> float | None:
    return None if values.get(key) is None else _figure(values, key, number, file)


def _accuracy(values: Mapping[str, Any], number: int, file: Path) -> dict[str, float]:
    """Return the AP of a line, which detectron2 writes in percent, as fractions."""
    names = [key for key in values if key.startswith(AVERAGE_PRECISION) and "-" not in key]
    return fractions({key.removeprefix("bbox/"): _number(values, key, number, file) for key in names}, file, number)


def _summary(entries: Mapping[str, str], file: Path) -> TrainingLog:
    def count(key: str) -> int:
        if not (entries[key].isdecimal() and 0 < float(entries[key]) <= 1e9):
            raise HarnessError(f"'{entries[key][:40]}' is no count", file=file, field=key, remedy=REMEDY)
        return int(entries[key])

    def figure(key: str) -> float | None:
        try:
            value = float(entries.get(key, ""))
        except ValueError:
            return None
        return value if 0 <= value < 1e12 else None

    accuracy = figure("TrainAccuracy")
    summary = PortSummary(
        entries,
        figure("ActualFPS"),
        figure("ActualLoss"),
        None if accuracy is None or accuracy > 100 else accuracy / 100,
    )
    kind = "summary of the Ascend port"
    return TrainingLog(file, kind, batch_size=count("BatchSize"), processes=count("RankSize"), summary=summary)


def _tidy(log: TrainingLog, started: int | None = None) -> TrainingLog:
    """Bring the records into order: what a restart did again replaces what it was, and ranks become one.

    Args:
        log: As the file has it.
        started: Iterations done when the run was last started, as it says; None where it does not.

    Raises:
        HarnessError: There are none.
    """
    if not log.steps and not log.accuracies:
        said = "; ".join(["no iteration and no AP is in it", *log.remarks])
        raise HarnessError(said, file=log.file, remedy=f"give {KINDS}")
    log, first = _without_what_was_done_again(log)
    by_iteration: dict[int, list[LoggedStep]] = {}
    for step in log.steps:
        by_iteration.setdefault(step.iteration, []).append(step)
    counts = Counter(map(len, by_iteration.values()))
    ranks = max(counts, key=lambda count: (counts[count], count), default=1)
    merged = tuple(_mean(by_iteration[iteration]) for iteration in sorted(by_iteration))
    log = _counted(replace(log, steps=merged))
    before_first = max(0, first - log.counted_from + 1 - log.period)
    log = replace(log, started=before_first if started is None else started)
    if max(counts, default=1) == 1:
        return log
    differ = any(same[0].losses != other.losses for same in by_iteration.values() for other in same[1:])
    ranks = max(ranks, 2)
    uneven = sum(len(same) != ranks for same in by_iteration.values())
    remark = f"{ranks} records of each iteration, as of {ranks} processes that wrote into one file"
    remark += f" (but at {uneven} iterations)" if uneven else ""
    remark += ": shown is their mean" if differ else ", all alike"
    return replace(log, ranks=ranks, ranks_differ=differ, remarks=(*log.remarks, remark))


def _counted(log: TrainingLog) -> TrainingLog:
    """Tell from which number a log counts: every 20 iterations, the last of them is 19, 39 ... or 20, 40 ..."""
    numbers = [step.iteration for step in log.steps]
    if not numbers or numbers[0] == 0:
        return log
    whole = sum(number % log.period == 0 for number in numbers)
    others = sum((number + 1) % log.period == 0 for number in numbers)
    from_1 = numbers[0] == 1 if log.period == 1 else whole > others
    return replace(log, counted_from=int(from_1))


def _without_what_was_done_again(log: TrainingLog) -> tuple[TrainingLog, int]:
    """Leave out what a restarted run made again; return the first iteration since then, too.

    Ranks wait for each other: what goes back is no other rank.
    """
    kept: list[LoggedStep] = []
    resumed: LoggedStep | None = None
    for step in log.steps:
        if kept and step.iteration < kept[-1].iteration:
            resumed = step
            while kept and kept[-1].iteration >= step.iteration:
                kept.pop()
        kept.append(step)
    if resumed is None:
        return log, log.steps[0].iteration if log.steps else 0
    again = len(log.steps) - len(kept)
    remark = f"the run was started again, last from iteration {resumed.iteration}: {again} records that it made again "
    remark += "are left out"
    accuracies = tuple(
        one
        for one in log.accuracies
        if one.line > resumed.line or one.iteration is None or one.iteration < resumed.iteration
    )
    return replace(log, steps=tuple(kept), accuracies=accuracies, remarks=(*log.remarks, remark)), resumed.iteration


def _mean(steps: Sequence[LoggedStep]) -> LoggedStep:
    """Return the mean of what several ranks say of one iteration."""
    if len(steps) == 1:
        return steps[0]

    def mean(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    names = [name for name in steps[0].losses if all(name in step.losses for step in steps)]
    return replace(
        steps[0],
        losses={name: sum(step.losses[name] for step in steps) / len(steps) for name in names},
        seconds=mean([step.seconds for step in steps]),
        data_seconds=mean([step.data_seconds for step in steps]),
        step_fps=mean([step.step_fps for step in steps]),
    )
