"""The decomposed dialect: ONNX with every DCNv2 as GridSample, product and convolution.

For toolchains that have no deformable convolution, as old as onnx 1.14.
"""

from __future__ import annotations

from pathlib import Path

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops.sampled import sampled_form
from harness.devices.artifact import Exported
from harness.errors import HarnessError
from harness.export.trace import example_input, export_form, trace_onnx, write_onnx

DIALECT = "decomposed"

OPSET = 18
"""Of 16 to 19, where GridSample says "bilinear" (from 20 on "linear"), the one that the exporter writes of itself."""

IR_VERSION = 8
"""The format that opset 18 came with (ONNX 1.13)."""


def export_decomposed(
    module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
) -> Exported:
    """Write a network as one self-contained ONNX file of static shapes without any deformable operator.

    Args:
        module: The reference network, float32; it is not changed.
        card: Names, order, layout, activation and size of the tensors.
        path: The file to write, whole or not at all; an older one is replaced.
        batch_size: Of the file.
        weights_sha256: Of the checkpoint, for the file's metadata.

    Raises:
        HarnessError: There is no batch size; the card has no network or no fixed input size, or it is not of this
            network; the exporter fails or writes an invalid model; the file cannot be written.
    """
    if batch_size is None:
        raise HarnessError(
            "the decomposed dialect has static shapes: its toolchains take no other",
            field="--batch-size",
            remedy="give the batch size",
        )
    network = export_form(module, card, DIALECT)
    sampled_form(network, example_input(card, batch_size))
    model = trace_onnx(network, card, batch_size, OPSET)
    model.ir_version = IR_VERSION
    write_onnx(model, card, path, dialect=DIALECT, opset=OPSET, batch_size=batch_size, weights_sha256=weights_sha256)
    return Exported(card, DIALECT, module, path)
