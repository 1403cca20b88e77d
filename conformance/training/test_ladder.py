"""Each rung of a training step equals the reference's when both are fed the same: the first that does not is wrong."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run.training import stages
from harness.run.training.diagnose import diagnose_rung
from harness.run.training.session import TrainingSession

pytestmark = pytest.mark.training


def test_batch_equals_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.rung(training, device_name, "batch"), lambda: diagnose_rung(training, device_name, "batch"))


def test_features_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "features"), lambda: diagnose_rung(training, device_name, "features")
    )


def test_heads_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.rung(training, device_name, "heads"), lambda: diagnose_rung(training, device_name, "heads"))


def test_targets_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "targets"), lambda: diagnose_rung(training, device_name, "targets")
    )


def test_losses_of_the_first_stage_equal_reference(
    training: TrainingSession, recorder: Recorder, device_name: str
) -> None:
    recorder.settle(
        stages.rung(training, device_name, "first-losses"), lambda: diagnose_rung(training, device_name, "first-losses")
    )


def test_proposals_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "proposals"), lambda: diagnose_rung(training, device_name, "proposals")
    )


def test_matching_equals_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "matching"), lambda: diagnose_rung(training, device_name, "matching")
    )


def test_pooled_features_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "pooled"), lambda: diagnose_rung(training, device_name, "pooled")
    )


def test_predictions_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "predictions"), lambda: diagnose_rung(training, device_name, "predictions")
    )


def test_losses_of_the_cascade_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "stage-losses"), lambda: diagnose_rung(training, device_name, "stage-losses")
    )


def test_gradients_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.rung(training, device_name, "gradients"), lambda: diagnose_rung(training, device_name, "gradients")
    )


def test_clipped_gradients_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.clipped(training, device_name), lambda: diagnose_rung(training, device_name, "clipped"))


def test_updated_parameters_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(
        stages.parameters(training, device_name), lambda: diagnose_rung(training, device_name, "parameters")
    )


def test_losses_of_later_steps_equal_reference(training: TrainingSession, recorder: Recorder, device_name: str) -> None:
    recorder.settle(stages.later(training, device_name))
