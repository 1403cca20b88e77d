"""What a device executes keeps the contract of the model card."""

import pytest

from conformance.plugin.bench import Bench
from conformance.plugin.recorder import Recorder
from harness.centernet.heads import check_contract
from harness.checks.comparison import Comparison

pytestmark = pytest.mark.accuracy


def test_artifact_keeps_the_contract_of_the_card(
    bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    artifact = bench.artifact(device_name, batch_size)
    recorder.executed(artifact)
    check_contract(bench.card, artifact, batch_size, bench.subject.onnx)
    tensors = len(artifact.inputs) + len(artifact.outputs)
    comparisons = [Comparison("inputs and outputs", 0, 0, tensors)]
    if bench.device(device_name).card.whole_on_chip:
        left = artifact.findings.host_operators
        problem = f"left to the host's CPU: {', '.join(sorted(set(left)))}" if left else None
        comparisons.append(Comparison("operators that are not on the chip", len(left), 0, 1, problem))
    recorder.stage("contract", comparisons)
