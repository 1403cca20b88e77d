"""A whole training step equals the reference's, which equals the official one; scaled losses change nothing."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run.training import stages
from harness.run.training.session import TrainingSession

pytestmark = pytest.mark.training


def test_reference_equals_the_official_step(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.trained(training.executed(device_name))
    recorder.settle(stages.reference(training, device_name))


def test_own_step_equals_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.own_step(training, device_name))


def test_loss_scale_changes_no_gradient(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.loss_scale(training, device_name))


def test_overflow_skips_the_step(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.overflow(training, device_name))
