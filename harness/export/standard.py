"""The standard dialect: ONNX with native DeformConv."""

from __future__ import annotations

from pathlib import Path

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.devices.artifact import Exported
from harness.export.trace import export_form, trace_onnx, write_onnx

DIALECT = "standard"

OPSET = 19
"""The first with DeformConv: later ones change no operator used here, and the oldest is read by the most toolchains."""

IR_VERSION = 9
"""The format that opset 19 came with (ONNX 1.14); the exporter's own is newer without need."""


def export_standard(
    module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
) -> Exported:
    """Write a network as one self-contained ONNX file, the same bytes for the same weights and versions.

    Args:
        module: The reference network, float32; it is not changed.
        card: Names, order, layout, activation and size of the tensors.
        path: The file to write, whole or not at all; an older one is replaced.
        batch_size: Of the file; None for any.
        weights_sha256: Of the checkpoint, for the file's metadata.

    Raises:
        HarnessError: The card has no network or no fixed input size, or it is not of this network; the exporter
            fails or writes an invalid model; the file cannot be written.
    """
    network = export_form(module, card, DIALECT)
    model = trace_onnx(network, card, batch_size, OPSET)
    model.ir_version = IR_VERSION
    write_onnx(
        model,
        card,
        path,
        dialect=DIALECT,
        opset=OPSET,
        batch_size=batch_size or 1,
        weights_sha256=weights_sha256,
    )
    return Exported(card, DIALECT, module, path)
