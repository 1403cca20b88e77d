"""Speed: the records, the measurement on a device, and the ratio of two calls by interleaved pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from harness.cards import DeviceCard
from harness.devices.artifact import Artifact
from harness.devices.base import Device, time_batches
from harness.report.records import HOST_ARRAYS
from harness.types import Batch

RESAMPLES = 2000
SECONDS = 6.0
"""Aimed at for each measurement, within the limits of the rounds."""
ROUNDS = (10, 50)
MOST_CALLS = 100
"""Of the yardstick before each batch."""


@dataclass(frozen=True, slots=True)
class Speed:
    """A speed, and all that it is the speed of.

    Attributes:
        fps: Images a second, of one chip unless `chips` says otherwise. Padded slots are no images.
        batch_size: Images that the model takes at a time.
        batch_ms: Of each timed batch, the warm-up left out; the mean alone where a tool tells no more.
        tool: The clock: a tool and its file, or this project.
        interval: The work that lies within the time.
        chips: On the card whose speed it is.
        yardstick_ms: Of another network, the mean before each of the batches; empty where there is none.
    """

    fps: float
    batch_size: int
    batch_ms: tuple[float, ...]
    tool: str
    interval: str
    chips: int = 1
    yardstick_ms: tuple[float, ...] = ()

    def of_card(self, device: DeviceCard) -> Speed:
        """Return the speed of the whole card, where the device's card has several chips: they work side by side.

        The published figure of the Ascend 310 is such a product; no run on all chips at once is behind it.
        """
        if device.chips == 1 or self.chips > 1:
            return self
        tool = f"{self.tool}, times the {device.chips} chips of a card"
        return replace(self, fps=self.fps * device.chips, tool=tool, chips=device.chips)

    def share_of_peak(self, gmac: float, device: DeviceCard) -> float | None:
        """Return the share of the chips' largest arithmetic rate; None where the device's card does not state it.

        Args:
            gmac: Of one image, as `harness.centernet.networks.macs.gmacs` counts them.
            device: Card of the chip.
        """
        if device.peak is None:
            return None
        return self.fps * 2 * gmac / (1000 * device.peak.tflops * self.chips)


def measure(device: Device, artifact: Artifact, batch: Batch, yardstick: Callable[[], float] | None = None) -> Speed:
    """Time one batch as often as fits into `SECONDS`, after two runs that warm up; the speed is that of the median.

    Args:
        device: Where to run.
        artifact: From its `convert`.
        batch: The images; slots that pad it do not count.
        yardstick: Runs another network once, and returns the seconds. Called before each batch where it is given, for
            about as long as a batch takes, and the mean counts: what runs beside stretches a call that is much shorter
            by nothing or by several times its length, and a long one by its share of the machine.
    """
    *_, second = time_batches(device, artifact, batch.images, 2)
    low, high = ROUNDS
    rounds = int(np.clip(SECONDS / second, low, high))
    if yardstick is None:
        seconds, beside = np.array(time_batches(device, artifact, batch.images, rounds)), np.empty(0)
    else:
        calls = _calls_beside(yardstick, second)
        pairs = [
            (np.mean([yardstick() for _ in range(calls)]), *time_batches(device, artifact, batch.images, 1))
            for _ in range(rounds)
        ]
        beside, seconds = np.array(pairs).T
    fps = len(batch.image_ids) / float(np.median(seconds))
    batch_ms = tuple((1000 * seconds).tolist())
    yardstick_ms = tuple((1000 * beside).tolist())
    return Speed(fps, len(batch.images), batch_ms, "the runner's clock", HOST_ARRAYS, yardstick_ms=yardstick_ms)


def _calls_beside(yardstick: Callable[[], float], seconds: float) -> int:
    """Warm the yardstick up, and count how often it fits into the seconds of a batch: at least once."""
    _ = yardstick(), yardstick()
    return int(np.clip(seconds / min(yardstick() for _ in range(3)), 1, MOST_CALLS))


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a run over a data set.

    Attributes:
        images: Images whose detections count; padded slots are none.
        seconds: From the first image read to the last detection.
        device_seconds: Of these, inside the device, host arrays in and out.
        latency_ms: Of each batch in the device, the first (warm-up) left out where there are more.
    """

    images: int
    seconds: float
    device_seconds: float
    latency_ms: tuple[float, ...]

    @property
    def fps_end_to_end(self) -> float:
        """Images a second with reading, preprocessing and decoding."""
        return self.images / self.seconds

    @property
    def device_share(self) -> float:
        """Share of the time in which the device was at work."""
        return self.device_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Ratio:
    """Duration of one call divided by that of another.

    Attributes:
        median: Of the pairs.
        low: Lower end of the 95 % interval of the median.
        high: Its upper end.
        pairs: Number of pairs.
        ms: Median milliseconds of the first.
        other_ms: Median milliseconds of the second.
    """

    median: float
    low: float
    high: float
    pairs: int
    ms: float
    other_ms: float

    def __str__(self) -> str:
        interval = f"95 % interval {self.low:.3f} to {self.high:.3f}, {self.pairs} pairs"
        return f"{self.ms:.3f} ms against {self.other_ms:.3f} ms: ratio {self.median:.3f} ({interval})"


def time_ratio(first: Callable[[], object], second: Callable[[], object], pairs: int = 30, repeat: int = 1) -> Ratio:
    """Time `first` against `second` in interleaved pairs, the order within a pair alternating.

    Neighbouring times share the load of the machine, so the ratio within a pair hardly depends on it. The interval is a
    bootstrap of the median over the pairs.

    Args:
        first: The call that is judged.
        second: The call that it is compared with.
        pairs: At least 20, after one that only warms up.
        repeat: Calls in each timing.
    """

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        return (time.perf_counter() - start) / repeat

    timed(first), timed(second)
    times = np.empty((pairs, 2))
    for i in range(pairs):
        for j in (0, 1) if i % 2 else (1, 0):
            times[i, j] = timed((first, second)[j])
    ratios = times[:, 0] / times[:, 1]
    samples = np.random.default_rng(0).choice(ratios, (RESAMPLES, pairs))
    low, high = np.percentile(np.median(samples, axis=1), (2.5, 97.5))
    ms, other_ms = 1000 * np.median(times, axis=0)
    return Ratio(float(np.median(ratios)), float(low), float(high), pairs, float(ms), float(other_ms))
