"""Speed of a device at each batch size, and the little that the suite's own clock adds to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conformance.plugin.recorder import Recorder
from harness.checks.speed import (
    judge_device_share,
    judge_estimate,
    judge_overhead,
    judge_stated,
    reason_against_peak,
)
from harness.devices.artifact import Artifact
from harness.run.against import first_batch
from harness.run.measured import measured_speed
from harness.run.pipeline import detect
from harness.run.session import Session
from harness.run.speed import time_ratio

pytestmark = pytest.mark.perf


class Replay:
    """Clock of durations that were measured before: pytest-benchmark then reports those of the runner."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self._seconds, self._now = iter(seconds), 0.0

    def now(self) -> float:
        return self._now

    def step(self) -> None:
        self._now += next(self._seconds, 0.0)


def save(request: pytest.FixtureRequest, batch_ms: Sequence[float], facts: Mapping[str, object]) -> None:
    """Leave the speed in the files of pytest-benchmark, where its options ask for one."""
    if not any(request.config.getoption(f"benchmark_{option}") for option in ("json", "save", "autosave")):
        return
    # Not before: pytest-benchmark prints a table of its own, and warns of a test that has it and measures nothing.
    clock = Replay(milliseconds / 1000 for milliseconds in batch_ms)
    request.node.add_marker(pytest.mark.benchmark(timer=clock.now))
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    benchmark.pedantic(clock.step, rounds=len(batch_ms))
    benchmark.extra_info.update(facts)


def test_fps_of_the_device(
    request: pytest.FixtureRequest, session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    device = session.device(device_name)
    reason = device.card.reason_against("perf")
    if reason is not None:
        recorder.not_applicable("perf", reason)
        return
    recorder.executed(session.artifact(device_name, batch_size))
    measured = measured_speed(session, device_name, batch_size)
    recorder.speed(measured.perf)
    save(request, measured.speed.batch_ms, measured.facts(session, device_name))


def test_compiler_estimates_the_speed(session: Session, recorder: Recorder, device_name: str, batch_size: int) -> None:
    artifact = session.artifact(device_name, batch_size)
    estimate = artifact.findings.estimate
    if estimate is None:
        recorder.not_applicable("estimate", "no compiler that estimates")
        return
    recorder.executed(artifact)
    published = session.device(device_name).card.published_fps(session.card, recorder.precision, batch_size)
    recorder.estimate(estimate, published)
    recorder.stage("estimate", [judge_estimate(estimate)])


def test_tools_elsewhere_state_a_speed_that_the_chip_can_have(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    artifact = session.artifact(device_name, batch_size)
    stated = artifact.findings.stated
    if stated:
        recorder.executed(artifact)
    for speed in stated:
        recorder.perf(speed.fps, speed.batch_ms, f"stated elsewhere: {speed.note}")
    reason = reason_against_peak(stated, session.device(device_name).card)
    if reason is not None:
        recorder.not_applicable("stated speed", reason)
        return
    recorder.stage("stated speed", [judge_stated(stated)])


def bare_loop(artifact: Artifact, images: np.ndarray[Any, Any], device_name: str) -> Callable[[], object]:
    """The loop that an engineer would write to time the same session by hand."""
    link: Any = artifact.payload
    if device_name == "onnxruntime":
        session, feed = link.handle.session, {artifact.inputs[0].name: images}
        return lambda: session.run(None, feed)
    import torch

    module = link.handle.module

    def run() -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(images))

    return run


def test_suite_is_as_fast_as_a_bare_loop(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    if device_name not in ("onnxruntime", "torch"):
        recorder.not_applicable("harness-overhead", "no bare loop is known for this device")
        return
    device, artifact = session.device(device_name), session.artifact(device_name, batch_size)
    images = first_batch(session, batch_size).images
    ratio = time_ratio(lambda: device.run(artifact, images), bare_loop(artifact, images, device_name), pairs=20)
    recorder.stage("harness-overhead", [judge_overhead(ratio)])


def test_accuracy_run_spends_its_time_in_the_device(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    device = session.device(device_name)
    reason = device.card.reason_against("perf")
    if reason is not None:
        recorder.not_applicable("pipeline", reason)
        return
    artifact, some = session.artifact(device_name, batch_size), session.dataset.first(24)
    shares = [detect(device, artifact, session.card, some, batch_size)[1].device_share for _ in range(3)]
    recorder.stage("pipeline", [judge_device_share(shares, len(some))])
