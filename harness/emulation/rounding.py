"""Rounding to float16 between the layers of an ONNX, on a host that computes in float32.

ONNX Runtime on a CPU computes the operators of a float16 graph in float32, and the places of its rounding are not
defined. Here the rounding is written into the graph: each layer computes in float32, as the accumulators of a chip do,
and its result is rounded to float16 and saturates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from harness.errors import HarnessError

LARGEST = 65504.0
"""The largest float16. Larger values saturate: these chips store no infinity."""

CHOOSING = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Relu",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that only move or choose values (or give 0): results of float16 inputs need no rounding."""

LOWEST_OPSET = 11
"""Lowest opset of the default domain: Clip takes its bounds as inputs from here on."""


def to_fp16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to the nearest float16 values, ties to even, saturated at ±65504; NaN stays NaN.

    Args:
        values: float32 of any shape.

    Returns:
        float32 of the same shape; float16 holds the values exactly.
    """
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)


def rounded_to_fp16(model: ModelProto) -> ModelProto:
    """Copy a model so that it stores float16 between its layers; its inputs and outputs stay float32.

    Run it with the optimisations of ONNX Runtime switched off: they may drop pairs of casts and fuse layers across
    them. A call of a local function is one layer; rounding inside is the function's own affair.

    Args:
        model: A float32 model of opset 11 or later; it is not changed.

    Raises:
        HarnessError: The opset is older, the type of a tensor cannot be inferred, or the model has control flow.
    """
    _require_opset(model)
    typed = onnx.shape_inference.infer_shapes(model)
    types = _element_types(typed.graph)
    rounded = ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(to_fp16(numpy_helper.to_array(tensor)), tensor.name))
    writer = _Writer(graph)
    weights = {tensor.name for tensor in graph.initializer}
    given = [
        value.name for value in graph.input if value.name not in weights and types[value.name] == TensorProto.FLOAT
    ]
    renamed = {name: f"{name}/fp16" for name in given}
    nodes = [node for name, entered in renamed.items() for node in writer.rounding(name, entered)]
    for node in graph.node:
        nodes += _rounded(node, renamed, types, writer)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return rounded


def _rounded(node: NodeProto, renamed: dict[str, str], types: dict[str, int], writer: _Writer) -> Iterator[NodeProto]:
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise HarnessError(f"cannot round inside the control flow of node '{node.name}' ({node.op_type})")
    layer = NodeProto()
    layer.CopyFrom(node)
    layer.input[:] = [renamed.get(name, name) for name in node.input]
    yield layer
    if node.op_type in CHOOSING and not node.domain:
        return
    for place, name in enumerate(node.output):
        if not name:
            continue
        if name not in types:
            raise HarnessError(f"the type of '{name}', an output of {node.op_type}, is not known")
        if types[name] == TensorProto.FLOAT:
            layer.output[place] = f"{name}/exact"
            yield from writer.rounding(f"{name}/exact", name)


class _Writer:
    """Writes the rounding of one tensor as standard operators."""

    def __init__(self, graph: GraphProto) -> None:
        self.bounds = ("fp16/lowest", "fp16/highest")
        for name, value in zip(self.bounds, (-LARGEST, LARGEST), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))

    def rounding(self, name: str, rounded: str) -> list[NodeProto]:
        """Make the nodes that round tensor `name` to tensor `rounded`."""
        within, half = f"{rounded}/saturated", f"{rounded}/half"
        return [
            helper.make_node("Clip", [name, *self.bounds], [within], name=within),
            helper.make_node("Cast", [within], [half], name=half, to=TensorProto.FLOAT16),
            helper.make_node("Cast", [half], [rounded], name=f"{rounded}/float", to=TensorProto.FLOAT),
        ]


def _require_opset(model: ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < LOWEST_OPSET:
        raise HarnessError(
            f"rounding is written from opset {LOWEST_OPSET} on, and the model is of opset {opset}",
            remedy=f"export the model with opset {LOWEST_OPSET} or newer",
        )


def _element_types(graph: GraphProto) -> dict[str, int]:
    values: Iterable[onnx.ValueInfoProto] = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return {name: kind for name, kind in types.items() if kind != TensorProto.UNDEFINED}
