"""CenterNets as strangers export them: other names, orders, layouts, pixels and heads, the same detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from harness.cards import ModelCard
from harness.cards.model import Input

Triple = tuple[float, float, float]
KINDS = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


@dataclass(frozen=True)
class Stranger:
    """Outside of a model that is rewritten.

    Attributes:
        input: Layout, dtype, channel order, scale, mean and std that the caller has to give; name of the input.
        names: Of the heads' outputs; of all of them together under "all", where they are joined.
        order: Of the heads.
        probability: Whether hm is written as probability.
        size: Factor on wh.
        swap: Write height before width (top before left).
        joined: Heads that are written as one tensor.
        batch: Static batch size; None for an open one.
        half: Write the outputs as float16.
    """

    input: Input
    names: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[str] = ("hm", "wh", "reg")
    probability: bool = False
    size: float = 1.0
    swap: bool = False
    joined: Sequence[str] = ()
    batch: int | None = None
    half: bool = False


def rewritten(model: ModelProto, own: ModelCard, stranger: Stranger) -> ModelProto:
    """Rewrite a model that keeps the card `own` so that only `stranger` describes it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    _prefix(copy)
    front, back = _Nodes(graph, "front"), _Nodes(graph, "back")
    given = _front(front, own.input, stranger.input)
    for node in graph.node:
        node.input[:] = [given if name == f"own/{own.input.name}" else name for name in node.input]
    heads = {head: f"own/{name}" for head, name in zip(own.output.heads, own.output.names, strict=True)}
    channels = own.head_channels
    outputs = _back(back, heads, stranger)
    nodes = [*front.made, *graph.node, *back.made]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    batch: int | str = "batch" if stranger.batch is None else stranger.batch
    spec, (rows, columns) = stranger.input, own.grid
    sides = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
    graph.input.append(helper.make_tensor_value_info(spec.name, KINDS[spec.dtype], [batch, *sides]))
    kind = TensorProto.FLOAT16 if stranger.half else TensorProto.FLOAT
    for name, of in outputs.items():
        shape = [batch, sum(channels[head] for head in of), rows, columns]
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.checker.check_model(copy)
    return copy


class _Nodes:
    """Nodes added to one end of a graph."""

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        self.graph, self.prefix, self.made = graph, prefix, list[onnx.NodeProto]()

    def add(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: object) -> str:
        name = output or f"{self.prefix}/{len(self.made)}"
        self.made.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"{self.prefix}/constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def _prefix(model: ModelProto) -> None:
    """Put ``own/`` before every name, so that a stranger's name cannot be taken."""
    graph = model.graph
    rename: Callable[[str], str] = lambda name: f"own/{name}" if name else ""  # noqa: E731 - one line, used twice
    for node in graph.node:
        node.input[:], node.output[:] = map(rename, node.input), map(rename, node.output)
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)


def _front(nodes: _Nodes, own: Input, given: Input) -> str:
    """Turn the stranger's input into the model's own, (N, 3, H, W) or (N, H, W, 3) as that is."""
    name = given.name if given.dtype == "float32" else nodes.add("Cast", [given.name], to=TensorProto.FLOAT)
    if given.layout == "NHWC":
        name = nodes.add("Transpose", [name], perm=[0, 3, 1, 2])
    factor, offset = np.array(given.std) / given.scale, np.array(given.mean) / given.scale
    name = nodes.add("Mul", [name, nodes.constant(_plane(factor))])
    name = nodes.add("Add", [name, nodes.constant(_plane(offset))])
    if given.channel_order != own.channel_order:
        name = nodes.add("Gather", [name, nodes.constant(np.array([2, 1, 0]))], axis=1)
    factor, offset = own.scale / np.array(own.std), -np.array(own.mean) / np.array(own.std)
    name = nodes.add("Mul", [name, nodes.constant(_plane(factor))])
    name = nodes.add("Add", [name, nodes.constant(_plane(offset))])
    return nodes.add("Transpose", [name], perm=[0, 2, 3, 1]) if own.layout == "NHWC" else name


def _plane(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32).reshape(1, 3, 1, 1)


def _back(nodes: _Nodes, heads: Mapping[str, str], stranger: Stranger) -> dict[str, tuple[str, ...]]:
    """Write the heads as the stranger has them; return those in each output, in its order."""
    made = dict(heads)
    if stranger.probability:
        made["hm"] = nodes.add("Sigmoid", [made["hm"]])
    if stranger.size != 1:
        made["wh"] = nodes.add("Mul", [made["wh"], nodes.constant(np.float32(stranger.size))])
    if stranger.swap:
        made["wh"] = nodes.add("Gather", [made["wh"], nodes.constant(np.array([1, 0]))], axis=1)
    outputs = {}
    for head in stranger.order:
        if head not in stranger.joined:
            outputs[_output(nodes, made[head], stranger.names.get(head, head), stranger)] = (head,)
    if stranger.joined:
        all_of_them = nodes.add("Concat", [made[head] for head in stranger.joined], axis=1)
        name = _output(nodes, all_of_them, stranger.names.get("all", "all"), stranger)
        outputs[name] = tuple(stranger.joined)
    return outputs


def _output(nodes: _Nodes, tensor: str, name: str, stranger: Stranger) -> str:
    if stranger.half:
        return nodes.add("Cast", [tensor], name, to=TensorProto.FLOAT16)
    return nodes.add("Identity", [tensor], name)
