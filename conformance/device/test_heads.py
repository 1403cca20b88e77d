"""The heads of a device, and the decisions that follow from them, equal the reference's."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run import stages
from harness.run.diagnose import diagnose_device
from harness.run.session import Session

pytestmark = pytest.mark.accuracy


def test_device_heads_equal_reference(session: Session, recorder: Recorder, device_name: str, batch_size: int) -> None:
    found = stages.heads(session, device_name, batch_size)
    recorder.settle(found, lambda: diagnose_device(session, device_name, batch_size))


def test_sample_in_a_batch_equals_the_sample_alone(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    recorder.settle(stages.batch(session, device_name, batch_size))


def test_device_decides_as_the_reference(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    recorder.settle(stages.decisions(session, device_name, batch_size))
