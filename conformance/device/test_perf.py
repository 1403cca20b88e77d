"""How fast a device is at each batch size, and that the suite's own clock adds next to nothing."""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conformance.plugin.bench import Bench
from conformance.plugin.recorder import Recorder
from harness.checks.comparison import Comparison
from harness.devices.artifact import Artifact
from harness.exchange.tool_speed import Speed, beside
from harness.run.pipeline import batches, detect
from harness.run.timing import time_ratio
from harness.types import Batch

pytestmark = pytest.mark.perf

SECONDS = 6.0
"""Aimed at for each measurement, within the limits of the rounds."""
ROUNDS = (10, 50)
BARE_SHARE = 0.98
DEVICE_SHARE = 0.9


def first_batch(bench: Bench, batch_size: int) -> Batch:
    return next(iter(batches(bench.card, bench.dataset, batch_size, bench.dataset.image_ids[:batch_size])))


def rounds_for(call: Callable[[], object]) -> int:
    """As many rounds as fit, judged by the second call; both warm up."""
    call()
    start = time.perf_counter()
    call()
    low, high = ROUNDS
    return int(np.clip(SECONDS / (time.perf_counter() - start), low, high))


def test_fps_of_the_device(
    request: pytest.FixtureRequest, bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    reason = bench.device(device_name).card.reason_against("perf")
    if reason is not None:
        recorder.not_applicable("perf", reason)
        return
    device, artifact = bench.device(device_name), bench.artifact(device_name, batch_size)
    recorder.executed(artifact)
    # Not before: pytest-benchmark warns of a test that has it and measures nothing.
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    batch = first_batch(bench, batch_size)
    rounds = rounds_for(lambda: device.run(artifact, batch.images))
    benchmark.pedantic(device.run, (artifact, batch.images), rounds=rounds)
    seconds = np.array(benchmark.stats.stats.data)
    fps = len(batch.image_ids) / float(np.median(seconds))
    card, measured = device.card, Speed(fps, batch_size, (), "", "")
    note = "; ".join(["device: host arrays in, host arrays out", *beside(measured, card, bench.card)])
    recorder.perf(fps, (1000 * seconds).tolist(), note)
    benchmark.extra_info.update(
        device=device_name,
        execution=device.card.execution,
        precision=recorder.precision,
        batch_size=batch_size,
        images=len(batch.image_ids),
        fps=fps,
        **{f"latency_ms_p{q}": float(np.percentile(1000 * seconds, q)) for q in (50, 90, 99)},
        interval="host arrays in, host arrays out; no reading, preprocessing or decoding",
        threads=len(os.sched_getaffinity(0)),
        executed=artifact.executed,
    )


def test_compiler_estimates_the_speed(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    artifact = bench.artifact(device_name, batch_size)
    estimate = artifact.findings.estimate
    if estimate is None:
        recorder.not_applicable("estimate", "no compiler that estimates")
        return
    recorder.executed(artifact)
    published = bench.device(device_name).card.published_fps(bench.card, recorder.precision, batch_size)
    recorder.estimate(estimate, published)
    problem = None
    floor = estimate.ddr_floor_ms
    if floor is not None and estimate.latency_ms < floor:
        problem = "the estimate is faster than its own traffic with the memory"
    recorder.stage("estimate", [Comparison("traffic over estimate", (floor or 0) / estimate.latency_ms, 1, 1, problem)])


def test_tools_elsewhere_state_a_speed_that_the_chip_can_have(
    bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    artifact = bench.artifact(device_name, batch_size)
    if not artifact.findings.stated:
        recorder.not_applicable("stated speed", "nothing that a tool on another host has measured")
        return
    recorder.executed(artifact)
    for speed in artifact.findings.stated:
        recorder.perf(speed.fps, speed.batch_ms, f"stated elsewhere: {speed.note}")
    shares = [speed.share for speed in artifact.findings.stated if speed.share is not None]
    if not shares:
        recorder.not_applicable("stated speed", "measured, and held to nothing: no --device says what the chip can do")
        return
    problem = "faster than the chip can compute" if max(shares) > 1 else None
    recorder.stage("stated speed", [Comparison("share of the peak", max(shares), 1, len(shares), problem)])


def bare_loop(artifact: Artifact, images: np.ndarray[Any, Any], device_name: str) -> Callable[[], object]:
    """What an engineer would write to time the same session by hand."""
    link: Any = artifact.payload
    if device_name == "onnxruntime":
        feed = {artifact.inputs[0].name: images}
        return lambda: link.handle.session.run(None, feed)
    import torch

    def run() -> object:
        with torch.inference_mode():
            return link.handle.module(torch.from_numpy(images))

    return run


def test_suite_is_as_fast_as_a_bare_loop(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    if device_name not in ("onnxruntime", "torch"):
        recorder.not_applicable("harness-overhead", "no bare loop is known for this device")
        return
    device, artifact = bench.device(device_name), bench.artifact(device_name, batch_size)
    images = first_batch(bench, batch_size).images
    ratio = time_ratio(lambda: device.run(artifact, images), bare_loop(artifact, images, device_name), pairs=20)
    limit = 1 / BARE_SHARE
    problem = str(ratio) if ratio.low > limit else None
    recorder.stage(
        "harness-overhead", [Comparison("time against a bare loop", ratio.median, limit, ratio.pairs, problem)]
    )


def test_accuracy_run_spends_its_time_in_the_device(
    bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    reason = bench.device(device_name).card.reason_against("perf")
    if reason is not None:
        recorder.not_applicable("pipeline", reason)
        return
    device, artifact = bench.device(device_name), bench.artifact(device_name, batch_size)
    some = bench.first_images(24)
    shares = [detect(device, artifact, bench.card, some, batch_size)[1].device_share for _ in range(3)]
    share = max(shares)  # what others do on the machine can only lower it
    problem = None if share >= DEVICE_SHARE else f"shares of three runs: {', '.join(f'{s:.3f}' for s in shares)}"
    recorder.stage("pipeline", [Comparison("time beside the device", 1 - share, 1 - DEVICE_SHARE, len(some), problem)])
