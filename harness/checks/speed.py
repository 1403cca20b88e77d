"""Judgements of speed: against a bare loop, the memory's traffic, the chip's peak and a log; context of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.checks.comparison import Comparison

if TYPE_CHECKING:  # records alone: a check needs nothing of what makes them
    from harness.cards import AnyCard, DeviceCard
    from harness.devices.artifact import CompilerEstimate, StatedSpeed
    from harness.exchange.speed_log import SpeedLog
    from harness.run.speed import Ratio, Speed

BARE_SHARE = 0.98
"""Of the speed of a bare loop that the suite reaches at least."""
DEVICE_SHARE = 0.9
"""Of an accuracy run's time that passes within the device at least."""
ALLOWED = 0.01
"""Of a claimed speed: times are rounded to tenths of a millisecond, and the speed itself is rounded."""


def judge_overhead(ratio: Ratio) -> Comparison:
    """Compare the suite's time with that of a bare loop; it deviates where even the interval's lower end is above."""
    limit = 1 / BARE_SHARE
    problem = str(ratio) if ratio.low > limit else None
    return Comparison("time against a bare loop", ratio.median, limit, ratio.pairs, problem)


def judge_device_share(shares: Sequence[float], images: int) -> Comparison:
    """Hold the best run's share of the time within the device to `DEVICE_SHARE`.

    Args:
        shares: Of several runs; other load on the machine can only lower them.
        images: In each run.
    """
    share, shown = max(shares), ", ".join(f"{one:.3f}" for one in shares)
    problem = None if share >= DEVICE_SHARE else f"shares of {len(shares)} runs: {shown}"
    return Comparison("time beside the device", 1 - share, 1 - DEVICE_SHARE, images, problem)


def judge_estimate(estimate: CompilerEstimate) -> Comparison:
    """Compare the time of the traffic with the chip's memory with the compiler's estimate, which cannot be less."""
    floor = estimate.ddr_floor_ms or 0.0
    problem = "the estimate is faster than its own traffic with the memory" if floor > estimate.latency_ms else None
    return Comparison("traffic over estimate", floor / estimate.latency_ms, 1, 1, problem)


def reason_against_peak(stated: Sequence[StatedSpeed], device: DeviceCard) -> str | None:
    """Return the reason why stated speeds cannot be held to the chip's peak; None where they can."""
    if not stated:
        return "nothing that a tool on another host has measured"
    if all(speed.share is None for speed in stated):
        return "measured, and held to nothing: no --device says what the chip can do"
    if device.peak is not None and not device.peak.verified:
        return f"measured, and held to nothing: the peak is not verified ({device.peak.source})"
    return None


def judge_stated(stated: Sequence[StatedSpeed]) -> Comparison:
    """Hold the fastest stated speed to the chip's peak; `reason_against_peak` says whether that is possible."""
    shares = [speed.share for speed in stated if speed.share is not None]
    problem = "faster than the chip can compute" if max(shares) > 1 else None
    return Comparison("share of the peak", max(shares), 1, len(shares), problem)


def judge_speed(log: SpeedLog) -> Comparison:
    """Compare the claimed speed of a log with the speed that its own times give."""
    measured = log.measured_fps
    off = abs(log.fps / measured - 1)
    problem = None
    if not off <= ALLOWED:
        counted = sum(batch.images for batch in log.batches[log.warm_up :])
        problem = f"{log.fps:.2f} fps are claimed; {counted} images in the time of the log are {measured:.2f} fps"
    return Comparison("fps against the log's own times", off, ALLOWED, len(log.batches), problem)


def describe(speed: Speed, device: DeviceCard | None, model: AnyCard) -> str:
    """Describe a speed in one line: the figure, its interval, and `beside`.

    Args:
        speed: Of one chip.
        device: Card of the chip; None where it is not said.
        model: Card of the network.
    """
    whole = speed if device is None else speed.of_card(device)
    parts = [f"{whole.fps:.4g} images/s at batch size {speed.batch_size}"]
    if whole.chips != speed.chips:
        parts.append(f"{speed.fps:.4g} a chip")
    parts.append(f"{whole.tool}: {speed.interval}")
    return "; ".join([*parts, *([] if device is None else beside(whole, device, model))])


def beside(speed: Speed, device: DeviceCard, model: AnyCard) -> list[str]:
    """Return the published speeds of this network, batch size and device, and the used share of the chip's peak."""
    from harness.centernet.networks.macs import card_gmacs  # PyTorch takes seconds to load

    parts = []
    published = [device.published_fps(model, precision, speed.batch_size) for precision in device.precisions]
    parts += [f"published: {fps:g}" for fps in published if fps is not None]
    gmac = card_gmacs(model)
    share = None if gmac is None else speed.share_of_peak(gmac, device)
    if share is not None and device.peak is not None:
        peak = device.peak
        source = peak.source if peak.verified else f"{peak.source}, not verified"
        parts.append(f"{share:.1%} of {peak.tflops:g} TFLOPS a chip ({gmac:.1f} GMAC an image; {source})")
    return parts
