"""Speed of the model against an older one, or against a second device; only where `--against` names one."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run.against import against
from harness.run.session import Session

pytestmark = [pytest.mark.perf, pytest.mark.accuracy]


def test_model_is_no_slower_than_the_old_one(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    recorder.executed(session.artifact(device_name, batch_size))
    recorder.settle(against(session, device_name, batch_size))
