"""An ONNX that can be cut: the tensors that cross a cut, and the models on either side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from harness.errors import HarnessError
from harness.export.load import load_onnx_checked

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


class CutGraph:
    """A model whose nodes are in topological order, as ONNX demands.

    A cut is a place in this order. The tensors that cross it are all that nodes behind it take from nodes before it,
    whatever the branches and skip connections.

    Args:
        path: An ONNX without control flow.

    Raises:
        HarnessError: The file is no valid ONNX, or has control flow.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model: ModelProto = load_onnx_checked(path)
        self.nodes: Sequence[NodeProto] = self.model.graph.node
        if any(attribute.HasField("g") or attribute.graphs for node in self.nodes for attribute in node.attribute):
            raise HarnessError("a model with control flow cannot be cut", file=path, remedy="unroll its loops and ifs")
        graph = self.model.graph
        self.types: dict[str, ValueInfoProto] = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in self.weights]
        self.outputs = [value.name for value in graph.output]

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def made_by(self) -> dict[str, int]:
        """Place of the node that makes each tensor, for the tensors that depend on the input."""
        places: dict[str, int] = {}
        known = set(self.inputs)
        for place, node in enumerate(self.nodes):
            if known.intersection(node.input):
                known.update(node.output)
                places.update((name, place) for name in node.output if name)
        return places

    @cached_property
    def values(self) -> list[str]:
        """The floating tensors that depend on the input, in order."""
        return [name for name in self.made_by if self._is_float(name)]

    def _is_float(self, name: str) -> bool:
        return name in self.types and self.types[name].type.tensor_type.elem_type in FLOATS

    def crossing(self, place: int) -> list[str]:
        """List the tensors that cross the cut after `place` nodes: they depend on the input and are used later."""
        taken = {name for node in self.nodes[place:] for name in node.input} | set(self.outputs)
        return [name for name, maker in self.made_by.items() if maker < place and name in taken]

    def until(self, outputs: Iterable[str]) -> ModelProto:
        """Make the model with other outputs, reduced to the nodes that these need."""
        return self._part(0, len(self), self.inputs, list(outputs))

    def between(self, start: int, end: int) -> ModelProto:
        """Make a model of the nodes from `start` to before `end`; its inputs are all tensors that they take."""
        made = [name for name, place in self.made_by.items() if start <= place < end]
        inside = set(made)
        taken = {name for node in self.nodes[start:end] for name in node.input}
        given = [name for name in (*self.inputs, *self.made_by) if name in taken and name not in inside]
        later = set(self.crossing(end))
        return self._part(start, end, given, [name for name in made if name in later])

    def _part(self, start: int, end: int, inputs: Sequence[str], outputs: Sequence[str]) -> ModelProto:
        needed, kept = set(outputs), []
        for place in range(end - 1, -1, -1):
            node = self.nodes[place]
            constant = not any(name in self.made_by for name in node.output)
            if (place >= start or constant) and needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        part = ModelProto()
        part.CopyFrom(self.model)
        part.ClearField("metadata_props")  # which describe the whole model
        graph = part.graph
        for field in ("node", "initializer", "input", "output", "value_info"):
            graph.ClearField(field)
        graph.node.extend(reversed(kept))
        graph.initializer.extend(tensor for name, tensor in self.weights.items() if name in needed)
        graph.input.extend(self.types[name] for name in inputs)
        graph.output.extend(self._declared(name) for name in outputs)
        return part

    def _declared(self, name: str) -> ValueInfoProto:
        if name in self.types:
            return self.types[name]
        raise HarnessError(f"the type of '{name}' is not known, so the model cannot be cut there", file=self.path)


def save(model: ModelProto, path: Path) -> Path:
    """Write a model and return `path`."""
    onnx.save(model, path)
    return path
