"""Reading of an ONNX file and of the tensors and precision that it states."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from harness.devices.artifact import Artifact, TensorSpec
from harness.devices.memory import require_memory
from harness.errors import HarnessError
from harness.export.onnx_file import REMEDY, first_line, load_onnx, tensor_sizes

PRECISIONS = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}

UNJUDGED = "com.huawei.cann"
"""A domain whose operators ``onnx.checker`` does not check."""


def load_onnx_checked(path: Path) -> ModelProto:
    """Load an ONNX file, check it with ``onnx.checker``, and infer the types of its values.

    Raises:
        HarnessError: The file is missing, truncated, no ONNX, an invalid one, or has a tensor that does not fit into
            the memory of this machine.
    """
    model = load_onnx(path)
    if not model.graph.node or not model.graph.output:
        raise HarnessError("the file is truncated or no ONNX: it holds no graph", file=path, remedy=REMEDY)
    try:
        onnx.checker.check_model(checkable(model))
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        cause = f"not a valid ONNX model: {first_line(error)}"
        raise HarnessError(cause, file=path, remedy="export the model again, and run onnx.checker on it") from error
    for name, size in tensor_sizes(inferred.graph):
        remedy = "run it where there is more memory, or export a smaller model"
        require_memory(size, "one tensor of the model", file=path, field=name, remedy=remedy)
    return inferred


def checkable(model: ModelProto) -> ModelProto:
    """Make a model that ``onnx.checker`` can check; operators that only ATC has are exempt.

    Args:
        model: The model; it is not changed.

    Returns:
        The model itself, or a copy if it has such operators in ONNX's own domain.
    """
    if not any(is_deformable_conv2d(node) for node in model.graph.node):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if is_deformable_conv2d(node):
            node.domain = UNJUDGED
    copy.opset_import.append(onnx.helper.make_opsetid(UNJUDGED, 1))
    return copy


def is_deformable_conv2d(node: NodeProto) -> bool:
    """Tell whether a node is the deformable convolution of CANN, which ATC reads in ONNX's own domain."""
    return node.op_type == "DeformableConv2D" and node.domain in ("", "ai.onnx")


def stated_by(model: ModelProto) -> Artifact:
    """Read the statements of a model about itself: an artifact without payload, its precision in `executed`.

    Its inputs are those without a default value, which a caller must give.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in defaults)
    outputs = tuple(_spec(value) for value in model.graph.output)
    static = inputs[0].shape[0] if inputs and inputs[0].shape else None
    return Artifact(None, inputs, outputs, static, {"precision": precision_of(model)})


def precision_of(model: ModelProto) -> str:
    """Return the precision of a model: "fp32", "fp16", ..., joined by "+" if mixed, "int8" if quantised.

    Args:
        model: The model with inferred types, from `load_onnx_checked`.
    """
    graph = model.graph
    if any(_is_quantised(node.op_type) for node in graph.node):
        return "int8"
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return "+".join(sorted(name for kind, name in PRECISIONS.items() if kind in types))


def _is_quantised(op_type: str) -> bool:
    return "quantize" in op_type.lower() or op_type.startswith("QLinear") or op_type.endswith("Integer")


def _spec(value: ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "no tensor"
    return TensorSpec(value.name, shape, dtype)
