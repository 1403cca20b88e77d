"""A training with static shapes, as chips and graph compilers need it, computes what one without computes."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run.training.session import TrainingSession
from harness.run.training.static_shapes import static_shapes

pytestmark = pytest.mark.training


def test_static_shapes_compute_what_shapes_of_the_data_do(
    training: TrainingSession, recorder: Recorder, device_name: str
) -> None:
    recorder.settle(static_shapes(training, device_name))
