"""An artifact keeps the contract of the model card."""

import pytest

from conformance.plugin.recorder import Recorder
from harness.run import stages
from harness.run.session import Session

pytestmark = pytest.mark.accuracy


def test_artifact_keeps_the_contract_of_the_card(
    session: Session, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    recorder.executed(session.artifact(device_name, batch_size))
    recorder.settle(stages.contract(session, device_name, batch_size))
