"""Log of a training in its folder: plain lines for people, JSON lines for programs, the same figures in both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from harness.errors import HarnessError
from harness.files import is_file, read_text, whole_file
from harness.training.loop import Iteration

PERIOD = 20
"""Iterations between two records; a record has the medians since the last one."""
SUMMED = "dropped_"
"""Start of the names of counts, whose sum since the last record counts: a median would hide what is rare."""
LINES, RECORDS = "log.txt", "metrics.json"
IN_LINE, IN_RECORD = re.compile(r"^iter: (\d+) "), re.compile(r'^\{"iteration": (\d+),')
LOG_BYTES = 2**28


class TrainingLog:
    """The files ``log.txt`` and ``metrics.json`` of a run, to which records are added.

    Iterations count from 0, as in the logs of detectron2. There is a record of the first iteration, of every
    `PERIOD`-th, and of the last; ``time`` is that of a step without ``data_time``, the wait for its images. A run that
    goes on removes the records of iterations that it does again.

    Args:
        folder: Of the run.
        heading: Lines at the start of the run, as of its settings.
        planned: Iterations of the whole run.
    """

    def __init__(self, folder: Path, heading: Iterable[str], planned: int) -> None:
        self.folder, self.heading, self.planned = folder, tuple(heading), planned
        self.since: list[Iteration] = []
        self.started = False

    def __call__(self, one: Iteration) -> None:
        """Take note of an iteration, and write a record where one is due."""
        if not self.started:
            self._start(one.done - 1)
        self.since.append(one)
        if one.done == 1 or one.done % PERIOD == 0 or one.done == self.planned:
            record = _record(self.since)
            figures = "  ".join(f"{name}: {value:g}" for name, value in record.items() if name != "iteration")
            self._add(LINES, [f"iter: {record['iteration']}  {figures}"])
            self._add(RECORDS, [json.dumps(record)])
            self.since.clear()

    def _start(self, done: int) -> None:
        for name, pattern in ((LINES, IN_LINE), (RECORDS, IN_RECORD)):
            _cut(self.folder / name, pattern, done)
        self._add(LINES, [*self.heading, f"Starting training from iteration {done}"])
        self.started = True

    def _add(self, name: str, lines: Iterable[str]) -> None:
        path = self.folder / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            raise HarnessError(
                f"the log cannot be written: {error.strerror}", file=path, remedy="check that the disk has space"
            ) from error


def _record(since: Sequence[Iteration]) -> dict[str, float]:
    """Make a record of iterations; its figures are rounded, so that both files have the same."""
    last = since[-1]
    named = {"total_loss" if name == "total" else name: [one.losses[name] for one in since] for name in last.losses}
    named |= {"time": [one.seconds for one in since], "data_time": [one.data_seconds for one in since]}
    figures = {name: (sum if name.startswith(SUMMED) else median)(values) for name, values in named.items()}
    figures["lr"] = last.learning_rate
    return {"iteration": last.done - 1} | {name: float(f"{value:.6g}") for name, value in figures.items()}


def _cut(path: Path, pattern: re.Pattern[str], done: int) -> None:
    """Cut a log before its first record of an iteration that is not done, and a line that does not end."""
    if not is_file(path):
        return
    kept = []
    for line in read_text(path, None, LOG_BYTES).splitlines(keepends=True):
        found = pattern.search(line)
        if not line.endswith("\n") or (found is not None and int(found[1]) >= done):
            break
        kept.append(line)
    with whole_file(path) as partial:
        partial.write_text("".join(kept) if done else "", encoding="utf-8")
