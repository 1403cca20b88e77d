"""Processes together compute what one does, an interrupted training what an undisturbed one does, and how fast."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run.training.resume import resume
from harness.run.training.session import TrainingSession
from harness.run.training.together import diagnose_processes, processes, speed

pytestmark = pytest.mark.training


def test_two_processes_compute_what_one_does(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(processes(training, device_name), lambda: diagnose_processes(training, device_name))


def test_resumed_training_equals_an_undisturbed_one(
    training: TrainingSession, recorder: Recorder, device_name: str
) -> None:
    recorder.settle(resume(training, device_name))


def test_images_per_second(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(speed(training, device_name))
