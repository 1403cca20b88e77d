"""The standard dialect: ONNX with native DeformConv."""

from __future__ import annotations

from harness.export.dialect import OnnxDialect

OPSET = 19
"""The first opset with DeformConv. Later ones change no operator used here, and fewer toolchains read them."""

IR_VERSION = 9
"""The format that opset 19 came with (ONNX 1.14); the exporter's own is newer without need."""

export_standard = OnnxDialect("standard", OPSET, IR_VERSION)
