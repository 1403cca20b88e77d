"""What a device executes keeps the contract of the model card."""

import pytest

from conformance.plugin.bench import Bench
from conformance.plugin.recorder import Recorder
from harness.compare import Comparison
from harness.heads import check_contract

pytestmark = pytest.mark.accuracy


def test_artifact_keeps_the_contract_of_the_card(
    bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    artifact = bench.artifact(device_name, batch_size)
    recorder.executed(artifact)
    check_contract(bench.card, artifact, batch_size, bench.subject.onnx)
    tensors = len(artifact.inputs) + len(artifact.outputs)
    recorder.stage("contract", [Comparison("inputs and outputs", 0, 0, tensors)])
