"""The Ascend dialect, ONNX for ATC: opset 11 in one domain, every DCNv2 one node `DeformableConv2D`."""

from __future__ import annotations

import onnx
import torch
from onnx import ModelProto, NodeProto, helper
from torch import nn

from harness.centernet.ops import DCNv2
from harness.errors import HarnessError
from harness.export.dialect import OnnxDialect

OPSET = 11
"""The opset of the published recipes, known to every CANN. ATC parses the deformable node in opsets 9 to 16."""

IR_VERSION = 6
"""The format that opset 11 came with (ONNX 1.6)."""

TRACED_OPSET = 19
"""The first opset with DeformConv. The exporter reaches no opset below 18: it writes 18 instead, with a log line."""

SAME_SINCE_11 = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "Relu",
        "Sigmoid",
        "Slice",
        "Transpose",
    }
)
"""Operators that mean the same in opsets 11 and 19, if the checker finds no later attribute or type."""


def offsets_in_blocks(network: nn.Module) -> None:
    """Reorder the channels of every convolution of offsets for the operator: x block, y block, mask block.

    This is cheaper than a gathering of odd and even channels at run time. The PyTorch network itself computes wrong
    values afterwards.

    Args:
        network: The network, changed in place, so give a copy.
    """
    for part in network.modules():
        if isinstance(part, DCNv2):
            channels = torch.arange(part.conv_offset_mask.out_channels)
            offsets = 2 * len(channels) // 3
            order = torch.cat((channels[1:offsets:2], channels[0:offsets:2], channels[offsets:]))
            part.conv_offset_mask.weight = nn.Parameter(part.conv_offset_mask.weight[order].detach())
            bias = part.conv_offset_mask.get_parameter("bias")
            part.conv_offset_mask.bias = nn.Parameter(bias[order].detach())


def out_nodes(model: ModelProto) -> tuple[str, ...]:
    """Return the outputs for ATC's ``--out_nodes``, NODE:INDEX each, in the order of the graph.

    Names of nodes differ between versions of exporters, so they are read from the model.

    Raises:
        HarnessError: A node that gives an output has no name.
    """
    makers = {name: (node, place) for node in model.graph.node for place, name in enumerate(node.output)}
    found = []
    for output in model.graph.output:
        node, place = makers[output.name]
        if not node.name:
            raise HarnessError(
                f"the node that gives output '{output.name}' has no name",
                remedy=f"name the output itself: --out_nodes={';'.join(o.name for o in model.graph.output)}",
            )
        found.append(f"{node.name}:{place}")
    return tuple(found)


def _deformable_nodes(model: ModelProto) -> None:
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += _deformable(node) if node.op_type == "DeformConv" else [node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def _deformable(node: NodeProto) -> list[NodeProto]:
    x, weight, offset, bias, mask = node.input
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    top, left, bottom, right = given["pads"]
    assert (top, left) == (bottom, right)  # as torchvision pads
    joined = f"{node.output[0]}_offsets"
    return [
        helper.make_node("Concat", [offset, mask], [joined], name=f"{node.name}_offsets", axis=1),
        helper.make_node(
            "DeformableConv2D",
            [x, weight, joined, bias],
            list(node.output),
            name=node.name,
            strides=given["strides"],
            pads=[top, left],
            dilations=given["dilations"],
            groups=given["group"],
            deformable_groups=given["offset_group"],
        ),
    ]


def _lower(model: ModelProto) -> None:
    foreign = {node.op_type for node in model.graph.node} - SAME_SINCE_11 - {"DeformableConv2D"}
    if foreign:
        raise HarnessError(
            f"the network needs {', '.join(sorted(foreign))}, which is not known to be the same in opset {OPSET}",
            remedy="write that part of the network with other operators",
        )
    model.ClearField("opset_import")
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))


def _for_atc(model: ModelProto) -> None:
    _deformable_nodes(model)
    _lower(model)


export_ascend = OnnxDialect(
    "ascend",
    OPSET,
    IR_VERSION,
    TRACED_OPSET,
    prepare=lambda network, card, batch_size: offsets_in_blocks(network),
    rewrite=_for_atc,
)
