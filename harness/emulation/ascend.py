"""Conversion of a graph for ATC to one for ONNX Runtime, with the arithmetic of a chip that stores float16."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, helper

from harness.emulation.deformable_conv2d import DOMAIN, OPSET, deformable_conv2d_functions
from harness.emulation.rounding import rounded_to_fp16
from harness.errors import HarnessError
from harness.export.ascend_parser import read_deformable, require_readable
from harness.export.load import is_deformable_conv2d

IR_VERSION = 9
"""The format that opset 19 came with (ONNX 1.14)."""


def runnable(model: ModelProto, *, fp16: bool, fp16_coordinates: bool = False, file: Path | None = None) -> ModelProto:
    """Copy a graph for ATC, lift it to opset 19, and turn its deformable convolutions into calls of a local function.

    Args:
        model: A model for ATC; it is not changed.
        fp16: Store float16 between the layers, as ATC compiles by default; float32 throughout otherwise.
        fp16_coordinates: With `fp16`: round the sampling positions and weights to float16, too.
        file: File of the model, for messages.

    Raises:
        HarnessError: ATC would not read the model, or the model cannot be lifted.
    """
    require_readable(model, file)
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if is_deformable_conv2d(node):
            read = read_deformable(node, file)
            node.domain = DOMAIN
            node.ClearField("attribute")
            for name in ("strides", "pads", "dilations", "groups", "deformable_groups"):
                node.attribute.append(helper.make_attribute(name, getattr(read, name)))
    copy.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    lifted = _lifted(copy, file)
    lifted.ir_version = IR_VERSION
    lifted.functions.extend(deformable_conv2d_functions(fp16_samples=fp16, fp16_coordinates=fp16 and fp16_coordinates))
    return rounded_to_fp16(lifted) if fp16 else lifted


def runnable_on_host(model: ModelProto, file: Path | None = None) -> ModelProto:
    """Return a model that ONNX Runtime runs: the model itself, or a graph for ATC converted at float32.

    Raises:
        HarnessError: A graph for ATC would be refused by ATC, or cannot be lifted.
    """
    if any(is_deformable_conv2d(node) for node in model.graph.node):
        return runnable(model, fp16=False, file=file)
    return model


def _lifted(model: ModelProto, file: Path | None) -> ModelProto:
    try:
        lifted: ModelProto = onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise HarnessError(
            f"the model cannot be lifted to opset {OPSET} to be run here: {str(error).splitlines()[0]}",
            file=file,
            remedy="export it again: python -m harness export --dialect ascend",
        ) from error
    return lifted
