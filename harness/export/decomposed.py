"""The decomposed dialect: ONNX with every DCNv2 as GridSample, product and convolution.

It serves toolchains without deformable convolution, as old as onnx 1.14.
"""

from __future__ import annotations

from harness.cards import ModelCard
from harness.centernet.ops.sampled import sampled_form
from harness.errors import HarnessError
from harness.export.dialect import OnnxDialect
from harness.export.network import CardNetwork
from harness.export.trace import example_input

OPSET = 18
"""Opset that the exporter writes of itself. GridSample says "bilinear" in opsets 16 to 19, and "linear" from 20 on."""

IR_VERSION = 8
"""The format that opset 18 came with (ONNX 1.13)."""


def _sampled(network: CardNetwork, card: ModelCard, batch_size: int | None) -> None:
    if batch_size is None:
        raise HarnessError(
            "the decomposed dialect has static shapes: its toolchains take no other",
            field="--batch-size",
            remedy="give the batch size",
        )
    sampled_form(network, example_input(card, batch_size))


export_decomposed = OnnxDialect("decomposed", OPSET, IR_VERSION, prepare=_sampled)
