"""Damage to ONNX files, field by field of the protobuf."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

GraphChange = Callable[[Random, ModelProto, Path], str]

SIZES = (0, -1, 1, 3, 65, 2**20, 2**31, 2**40, 2**62, -(2**63))
LOCATIONS = (
    "model.data", "model.data", "model.data", "none.data", "../../etc/passwd", "/etc/passwd", "", ".", "a\0b",
    "x" * 300, "link.data", "pipe.data", "/dev/zero",
)  # fmt: skip
NAMES = ("", "x" * 3000, "a\0b", "\x1b[31m", "sq\nverdict: conforms", "../x", "é", "[/red]")


def weights(random: Random, model: ModelProto, folder: Path) -> str:
    """Change an initializer: its shape, its type, its bytes."""
    tensor = random.choice(model.graph.initializer)
    kind = random.choice(
        ("dims", "type", "cut", "longer", "none", "both", "values", "name", "twice", "segment", "rank")
    )
    if kind == "dims" and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice(SIZES)
    elif kind == "rank":
        tensor.dims.extend(random.choice(((1,), (1,) * 70, (0,))))
    elif kind == "type":
        tensor.data_type = random.choice((*range(27), 99, -1))
    elif kind in ("cut", "longer", "none"):
        data = tensor.raw_data
        tensor.raw_data = {"cut": data[: len(data) // 2 + 1], "longer": data + b"\0" * 4, "none": b""}[kind]
    elif kind == "both":
        tensor.float_data.extend([1.0, 2.0])
    elif kind == "values":
        shape = tuple(tensor.dims)
        value = random.choice((np.nan, np.inf, 3e38, 0.0, 1e-45))
        tensor.CopyFrom(numpy_helper.from_array(np.full(shape, value, np.float32), tensor.name))
    elif kind == "name":
        tensor.name = random.choice(NAMES)
    elif kind == "twice":
        model.graph.initializer.append(tensor)
    else:
        tensor.segment.begin, tensor.segment.end = 5, random.choice((1, 2**62))
    return f"weights: {kind}"


def external(random: Random, model: ModelProto, folder: Path) -> str:
    """Put the bytes of an initializer into another file, and say something odd about where."""
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    data, place = tensor.raw_data, folder / "model.data"
    place.write_bytes(data[: random.choice((len(data), len(data), len(data) // 2, 0))])
    location = random.choice(LOCATIONS)
    if location == "link.data":
        (folder / location).symlink_to("/etc/passwd")
    if location == "pipe.data":
        os.mkfifo(folder / location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    offset, length = (random.choice(("0", "-1", str(2**62), "x", "", "1e9", "4097")) for _ in range(2))
    entries = {
        "location": location,
        "offset": random.choice(("0", offset)),
        "length": random.choice((str(len(data)), length)),
    }
    for key, value in entries.items():
        if random.random() < 0.9:
            tensor.external_data.add(key=key, value=value)
    return f"external data: {entries}"[:200]


def nodes(random: Random, model: ModelProto, folder: Path) -> str:
    """Change a node: leave it out, rename it, connect it to something else."""
    graph = model.graph
    place = random.randrange(len(graph.node))
    node = graph.node[place]
    kind = random.choice(
        ("gone", "twice", "operator", "domain", "input", "inputs", "output", "cycle", "order", "all gone")
    )
    if kind == "gone":
        del graph.node[place]
    elif kind == "twice":
        graph.node.append(node)
    elif kind == "operator":
        node.op_type = random.choice(
            ("", "NoSuch", "Loop", "If", "Scan", "Dropout", "Add", "StringNormalizer", "Einsum", *NAMES)
        )
    elif kind == "domain":
        node.domain = random.choice(("com.microsoft", "ai.onnx.ml", "com.huawei.cann", "x", *NAMES))
    elif kind == "input" and node.input:
        node.input[random.randrange(len(node.input))] = random.choice(("", "nothing", graph.input[0].name, *NAMES))
    elif kind == "inputs":
        node.input.extend([graph.input[0].name] * random.choice((1, 3, 50)))
    elif kind == "output" and node.output:
        node.output[0] = random.choice(("", "other", graph.input[0].name, *NAMES))
    elif kind == "cycle" and node.input:
        node.input[0] = graph.node[-1].output[0]
    elif kind == "order":
        moved = graph.node.pop(place)
        graph.node.insert(random.randrange(len(graph.node) + 1), moved)
    elif kind == "all gone":
        del graph.node[:]
    return f"node {place}: {kind}"


def attributes(random: Random, model: ModelProto, folder: Path) -> str:
    """Change an attribute of a node: kernel, strides, padding, groups."""
    node = random.choice([node for node in model.graph.node if node.attribute])
    attribute = random.choice(node.attribute)
    kind = random.choice(("value", "value", "value", "type", "gone", "twice", "fewer", "more", "name"))
    if kind == "value" and attribute.ints:
        attribute.ints[random.randrange(len(attribute.ints))] = random.choice(SIZES)
    elif kind == "value":
        attribute.i, attribute.f = random.choice(SIZES), random.choice((float("nan"), float("inf"), -1.0))
        attribute.s = random.choice((b"", b"\xff", b"SAME_UPPER", b"x" * 5000))
    elif kind == "type":
        attribute.type = random.randrange(16)
    elif kind == "gone":
        node.attribute.remove(attribute)
    elif kind == "twice":
        node.attribute.append(attribute)
    elif kind == "fewer":
        del attribute.ints[-1:]
    elif kind == "more":
        attribute.ints.extend([1] * random.choice((1, 7)))
    else:
        attribute.name = random.choice(NAMES)
    return f"{node.op_type}.{attribute.name[:30]!r}: {kind}"


def interface(random: Random, model: ModelProto, folder: Path) -> str:
    """Change an input or an output: name, type, shape, number."""
    side = random.choice((model.graph.input, model.graph.output))
    place = random.randrange(len(side))
    value: ValueInfoProto = side[place]
    tensor = value.type.tensor_type
    kind = random.choice(
        ("size", "size", "rank", "type", "no type", "symbol", "name", "gone", "twice", "sequence", "more")
    )
    if kind == "size":
        tensor.shape.dim[random.randrange(len(tensor.shape.dim))].dim_value = random.choice(SIZES)
    elif kind == "rank":
        del tensor.shape.dim[random.randrange(len(tensor.shape.dim)) :]
    elif kind == "type":
        tensor.elem_type = random.choice((*range(27), 99))
    elif kind == "no type":
        value.ClearField("type")
    elif kind == "symbol":
        tensor.shape.dim[-1].dim_param = random.choice(NAMES)
    elif kind == "name":
        value.name = random.choice(NAMES)
    elif kind == "gone":
        del side[place]
    elif kind == "twice":
        side.append(value)
    elif kind == "sequence":
        value.type.CopyFrom(helper.make_sequence_type_proto(value.type))
    else:
        side.append(helper.make_tensor_value_info(random.choice(("extra", *NAMES)), TensorProto.FLOAT, [1]))
    return f"{'input' if side is model.graph.input else 'output'} {place}: {kind}"


def head(random: Random, model: ModelProto, folder: Path) -> str:
    """Change what stands around the graph: versions, names, functions, metadata."""
    kind = random.choice(("opset", "opset", "ir", "no opset", "two opsets", "domain", "graph", "function", "metadata"))
    if kind == "opset":
        model.opset_import[0].version = random.choice((0, -1, 1, 6, 11, 26, 99, 2**62))
    elif kind == "ir":
        model.ir_version = random.choice((0, -1, 1, 3, 99, 2**62))
    elif kind == "no opset":
        del model.opset_import[:]
    elif kind == "two opsets":
        model.opset_import.append(helper.make_opsetid("", 7))
    elif kind == "domain":
        model.opset_import[0].domain = random.choice(NAMES)
    elif kind == "graph":
        model.graph.name = random.choice(NAMES)
    elif kind == "metadata":
        model.metadata_props.add(key=random.choice(NAMES), value=random.choice(NAMES))
    else:  # one that calls itself
        inner = helper.make_node("Self", ["x"], ["y"], domain="own")
        function = helper.make_function("own", "Self", ["x"], ["y"], [inner], [helper.make_opsetid("own", 1)])
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("own", 1))
        model.graph.node.append(helper.make_node("Self", [model.graph.input[0].name], ["z"], domain="own"))
    return f"head: {kind}"


def greed(random: Random, model: ModelProto, folder: Path) -> str:
    """Add to an output what takes more memory than there is."""
    size = random.choice((2**33, 2**36, 2**40, 2**60))
    graph = model.graph
    shape = numpy_helper.from_array(np.array([size], np.int64), "greedy_shape")
    graph.initializer.append(shape)
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["modest" if name == output else name for name in node.output]
    kind = random.choice(("ConstantOfShape", "Expand"))
    given = ["greedy_shape"] if kind == "ConstantOfShape" else ["greedy_one", "greedy_shape"]
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "greedy_one"))
    graph.node.append(helper.make_node(kind, given, ["greedy"]))
    graph.node.append(helper.make_node("ReduceSum", ["greedy"], ["total"], keepdims=0))
    graph.node.append(helper.make_node("Add", ["modest", "total"], [output]))
    return f"{kind} of {size} values"


KINDS: Mapping[str, GraphChange] = {
    "weights": weights, "external": external, "nodes": nodes, "attributes": attributes, "interface": interface,
    "head": head, "greed": greed,
}  # fmt: skip


def change_graph(random: Random, source: Path, target: Path) -> str:
    """Change an ONNX at one place or a few."""
    model, said = onnx.load(source), []
    for _ in range(random.choice((1, 1, 1, 2))):
        kind = random.choices(list(KINDS), (4, 3, 4, 4, 4, 2, 0.3))[0]
        try:
            said.append(KINDS[kind](random, model, target.parent))
        except (IndexError, ValueError):  # nothing of the kind is left, or protobuf does not take the value
            said.append(f"{kind}: nothing to change")
    target.write_bytes(model.SerializeToString())
    return "; ".join(said)
