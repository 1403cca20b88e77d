"""The contract: what a device executes has the inputs and outputs of the model card, and runs where it should."""

from __future__ import annotations

from pathlib import Path

from harness.cards import DeviceCard, ModelCard
from harness.centernet.heads import check_contract
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge
from harness.devices.artifact import Artifact


def check_artifact(
    card: ModelCard, device: DeviceCard, artifact: Artifact, batch_size: int, file: Path | None
) -> StageResult:
    """Hold an artifact to the model card, and its operators to the chip where the device card says so.

    Args:
        card: The contract of the model.
        device: The contract of the device.
        artifact: What the device executes.
        batch_size: Of the run.
        file: The user's ONNX that the artifact was made from, for the message.

    Raises:
        HarnessError: An input or output differs from the card, or the batch size does not fit.
    """
    check_contract(card, artifact, batch_size, file)
    comparisons = [Comparison("inputs and outputs", 0, 0, len(artifact.inputs) + len(artifact.outputs))]
    if device.whole_on_chip:
        left = artifact.findings.host_operators
        problem = f"left to the host's CPU: {', '.join(sorted(set(left)))}" if left else None
        comparisons.append(Comparison("operators that are not on the chip", len(left), 0, 1, problem))
    return judge("contract", batch_size, comparisons)
