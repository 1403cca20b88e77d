"""AP of a device equals the reference's on the same images in the same run, at every batch size that is claimed."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run import stages
from harness.run.session import Session

pytestmark = pytest.mark.accuracy


def test_ap_equals_reference(session: Session, recorder: Recorder, device_name: str, batch_size: int) -> None:
    recorder.settle(stages.accuracy(session, device_name, batch_size))
