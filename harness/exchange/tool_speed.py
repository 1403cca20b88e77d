"""Speeds on another host, read from the files of the vendors' tools; no figure of theirs is taken unchecked.

==================== ===================================================================================================
ais_bench, summary   every execution's own time: images whose results were written / their sum; padded slots and
                     the warm-up are no images, but the time of padded slots counts
ais_bench, printed   ``throughput 1000*batchsize.mean(B)/NPU_compute_time.mean(M): T``, in older versions without
                     ``.mean`` after batchsize; of several devices ``summary throughput:T``
benchmark.x86_64     the eighth number of ``perf_vision_batchsize_<B>_device_<id>.txt``, "Interface throughputRate"
the same, no images  ``ave_throughputRate`` of ``PureInfer_perf_of_*.txt``; its latency is that of a sample, not a batch
==================== ===================================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.exchange.summary import Summary, find_summary
from harness.files import read_regular
from harness.run.speed import Speed

TEXT_BYTES = 2**28
NUMBER = r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
PRINTED = re.compile(
    rf"throughput\s+1000\s*\*\s*batchsize(?:\.mean)?\({NUMBER}\)\s*/\s*NPU_compute_time\.mean\({NUMBER}\)\s*:\s*{NUMBER}",
    re.IGNORECASE,
)
OF_ALL_DEVICES = re.compile(rf"summary throughput:\s*{NUMBER}", re.IGNORECASE)
PERF_VISION = re.compile(r"perf_vision_batchsize_(\d+)_device_(\d+)\.txt")
RATES = ("throughputRate", "latency", "moduleLatency")
PURE = re.compile(rf"ave_throughputRate\s*[:=]\s*{NUMBER}")
NAMED_BATCH = re.compile(r"_bs(\d+)")
INTERFACE = 7
"""Place of "Interface throughputRate" among the numbers of a perf_vision file, from 0."""
MOST = 1e9
"""Images a second, images of a batch and milliseconds that no figure of a tool reaches."""
EXECUTION = "model execution alone: no copies between host and device, no reading"
AGREEMENT = 0.01
"""By how much of itself a tool's figure may differ from the quotient that it states."""


def from_summary(summary: Summary, images: int | None) -> Speed | None:
    """Read the speed of a run of ais_bench; None where the summary holds no times.

    Args:
        summary: Of the tool.
        images: Whose results came back; None for a run without images.

    Raises:
        HarnessError: The batch size that the tool was told is not that of its executions.
    """
    times = summary.batch_ms
    if not times or sum(times) <= 0:
        return None
    mean = sum(times) / len(times)
    told = summary.argument("--batchsize", "--batch-size")
    if told is None and summary.throughput is None:
        return None
    quotient = (summary.throughput or 0) * mean / 1000
    batch = _count(summary, "the batch size", told if told is not None else f"{quotient:.0f}")
    said = f", by {summary.arguments[0]}" if summary.arguments else ""
    tool = f"ais_bench, {summary.path.name}{said}"
    if images is None:
        return Speed(1000 * batch / mean, batch, times, tool, f"{EXECUTION}, without images")
    loops = _count(summary, "--loop", summary.argument("--loop", "-l") or "1")
    expected = math.ceil(images / batch) * loops
    if len(times) != expected:
        raise HarnessError(
            f"{len(times)} executions for {images} images, and batches of {batch} make {expected}: --batchsize only "
            "enters the tool's arithmetic, and the om takes other batches",
            file=summary.path,
            remedy="state the batch size that the om was converted with, and run again",
        )
    padded = expected // loops * batch - images
    note = f"; {padded} padded slots are no images" if padded else ""
    return Speed(1000 * images * loops / sum(times), batch, times, tool, EXECUTION + note)


def _count(summary: Summary, what: str, text: str) -> int:
    if not (text.isdecimal() and 0 < float(text) < MOST):
        raise HarnessError(
            f"{what} is said to be '{text[:40]}'", file=summary.path, remedy="copy the summary again, or remove it"
        )
    return int(text)


def from_printed(text: str, name: str) -> tuple[Speed, ...]:
    """Read the speeds that ais_bench printed among progress and log lines of CANN; that of all devices comes last.

    Raises:
        HarnessError: A figure is not the quotient that its line states.
    """
    found: list[Speed] = []
    for batch, mean, stated in (map(float, match) for match in PRINTED.findall(text.replace("\r", "\n"))):
        if not (0 < batch < MOST and 0 < mean < MOST and abs(stated - 1000 * batch / mean) <= AGREEMENT * stated):
            raise HarnessError(
                f"throughput {stated:g} is not 1000 x {batch:g} / {mean:g}", file=name, remedy="run the tool again"
            )
        found.append(Speed(stated, round(batch), (mean,), f"ais_bench, {name}", EXECUTION))
    total = OF_ALL_DEVICES.search(text)
    if total is not None and len(found) > 1 and 0 < float(total[1]) < MOST:
        first = found[0]
        fps, count = float(total[1]), len(found)
        found.append(
            Speed(fps, first.batch_size, first.batch_ms, f"ais_bench, {name}, {count} devices", EXECUTION, count)
        )
    return tuple(found)


def from_perf_vision(path: Path) -> Speed:
    """Read the speed of a run of benchmark.x86_64 over images.

    Raises:
        HarnessError: The file is none of its.
    """
    match = PERF_VISION.fullmatch(path.name)
    numbers = re.findall(rf"(?:{'|'.join(RATES)}): {NUMBER}", _text(path))
    if match is None or len(numbers) <= INTERFACE or not 0 < float(numbers[INTERFACE]) < MOST:
        raise HarnessError("no performance file of benchmark.x86_64", file=path, remedy="copy it again, or remove it")
    fps, batch = float(numbers[INTERFACE]), int(match[1])
    return Speed(fps, batch, (1000 * batch / fps,), f"benchmark.x86_64, {path.name}", EXECUTION)


def from_pure_inference(path: Path) -> Speed:
    """Read the speed of a run of benchmark.x86_64 without images; its batch size stands at most in the om's name.

    Raises:
        HarnessError: The file is none of its.
    """
    match = PURE.search(_text(path))
    if match is None or not 0 < float(match[1]) < MOST:
        raise HarnessError("no performance file of benchmark.x86_64", file=path, remedy="copy it again, or remove it")
    named = NAMED_BATCH.search(path.name)
    fps, batch_size = float(match[1]), int(named[1]) if named is not None else 1
    tool = f"benchmark.x86_64, {path.name}"
    return Speed(fps, batch_size, (1000 * batch_size / fps,), tool, f"{EXECUTION}, without images")


def _text(path: Path) -> str:
    return read_regular(path, None, TEXT_BYTES).decode("utf-8", errors="replace")


def read_speeds(folders: Sequence[Path], images: int) -> list[Speed]:
    """Read every speed that the tools left in or beside the folders of a run's results.

    Args:
        folders: As `result_folders` gives them.
        images: Whose results are there.

    Raises:
        HarnessError: A file is damaged, or contradicts itself.
    """
    found: list[Speed] = []
    if len(folders) == 1:  # of several devices, each summary tells of a part of the images
        summary = find_summary(folders[0])
        speed = None if summary is None else from_summary(summary, images)
        found += [] if speed is None else [speed]
    for place in dict.fromkeys([*folders, *(folder.resolve().parent for folder in folders)]):
        found += [from_perf_vision(path) for path in sorted(place.glob("perf_vision_batchsize_*.txt"))]
        found += [from_pure_inference(path) for path in sorted(place.glob("PureInfer_perf_of_*.txt"))]
        for path in sorted(place.glob("*.log")):
            found += from_printed(_text(path), path.name)
    return found
