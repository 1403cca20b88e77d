"""The summary that ais_bench writes beside its results: names of the files and time of each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from harness.data.dataset import first_few
from harness.errors import HarnessError
from harness.files import is_file, read_json

SUMMARY_BYTES = 2**28
NAMES = ("_summary.json", "summary.json", "sumary.json")
"""Names inside the folder: if the tool's option has a trailing slash, and as its forerunner spells it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of ais_bench, of any of its versions.

    Attributes:
        path: The file.
        outfiles: Names of the results that the run wrote; empty if the summary does not list them.
        arguments: The tool's command line.
        batch_ms: Time of each execution of the model, padded slots included, copies excluded.
        throughput: Images a second, as the tool states it; None if it does not.
    """

    path: Path
    outfiles: frozenset[str]
    arguments: tuple[str, ...]
    batch_ms: tuple[float, ...]
    throughput: float | None

    def argument(self, *names: str) -> str | None:
        """Return the value of an option, given as ``--name value`` or ``--name=value``; None if it was not given."""
        for place, argument in enumerate(self.arguments):
            option, equals, value = argument.partition("=")
            if option in names:
                following = self.arguments[place + 1 : place + 2]
                return value if equals else next(iter(following), None)
        return None


def find_summary(folder: Path) -> Summary | None:
    """Find the summary of a folder of results; None if there is none.

    Raises:
        HarnessError: It cannot be read.
    """
    beside = folder.resolve().parent / f"{folder.resolve().name}_summary.json"
    paths = [path for path in (beside, *(folder / name for name in NAMES)) if is_file(path)]
    return read_summary(paths[0]) if paths else None


def read_summary(path: Path) -> Summary:
    """Read a summary file.

    Raises:
        HarnessError: The file is no JSON object, or its entries have other types than ais_bench writes.
    """
    remedy = "copy it again, or remove it"
    content = read_json(path, None, SUMMARY_BYTES, cause="no summary of ais_bench", remedy=remedy)
    try:
        samples: Mapping[str, Mapping[str, Sequence[str]]] = content.get("filesinfo") or {}
        outfiles = [name for sample in samples.values() for name in sample.get("outfiles", ())]
        throughput = content.get("throughput")
        return Summary(
            path,
            frozenset(PureWindowsPath(name).name for name in outfiles),  # which splits at both kinds of slashes
            tuple(map(str, content.get("args") or ())),
            _times(content),
            None if throughput is None else _positive(throughput),
        )
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise HarnessError(f"no summary of ais_bench: {error}", file=path, remedy=remedy) from error


def _times(content: Mapping[str, Any]) -> tuple[float, ...]:
    times = content.get("npu_compute_time_list") or ()
    # Some versions write pairs of start and end.
    return tuple(_positive(float(time[1]) - float(time[0]) if isinstance(time, list) else time) for time in times)


def _positive(value: Any) -> float:  # noqa: ANN401 - as JSON has it
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"a time or speed of {number}")
    return number


def refuse_stale(summary: Summary, files: Sequence[Path]) -> None:
    """Refuse result files that the summary does not list.

    Raises:
        HarnessError: An earlier run left such files: ais_bench overwrites files and never removes any.
    """
    stale = sorted(path.name for path in files if path.name not in summary.outfiles)
    if summary.outfiles and stale:
        raise HarnessError(
            f"{len(stale)} results are not of the run that {summary.path.name} tells of: {first_few(stale)}",
            file=files[0].parent,
            remedy="remove what an earlier run left, or run again into an empty folder",
        )
