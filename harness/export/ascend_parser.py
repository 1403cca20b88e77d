"""The documented rules of ATC's ONNX parser; a model that it would refuse or misread is refused here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, NodeProto, helper

from harness.errors import HarnessError
from harness.export.load import is_deformable_conv2d

OPSETS = range(9, 17)
"""Opsets of the default domain for which a parser of `DeformableConv2D` is registered."""

PAIRS = ("strides", "pads", "dilations")
KNOWN = (*PAIRS, "groups", "deformable_groups", "modulated", "data_format")


@dataclass(frozen=True, slots=True)
class Deformable:
    """The attributes of one `DeformableConv2D`; pairs are (vertical, horizontal)."""

    strides: tuple[int, int]
    pads: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    deformable_groups: int


def require_readable(model: ModelProto, file: Path | None = None) -> None:
    """Refuse a model that ATC's parser refuses or misreads.

    Args:
        model: The ONNX.
        file: Its file, for messages.

    Raises:
        HarnessError: The model has a second opset domain, an opset without a parser, or a node with attributes that
            the parser refuses, ignores or has another default for.
    """
    domains = [entry.domain for entry in model.opset_import]
    if len(domains) > 1:
        raise HarnessError(
            f"the model has {len(domains)} opset domains, {', '.join(map(repr, domains))}: ATC takes one only (E16005)",
            file=file,
            field="opset_import",
            remedy="export it again with every operator in one domain: python -m harness export --dialect ascend",
        )
    deformable = [node for node in model.graph.node if is_deformable_conv2d(node)]
    opset = model.opset_import[0].version
    if deformable and opset not in OPSETS:
        raise HarnessError(
            f"ATC has no parser for DeformableConv2D of opset {opset} (E19010)",
            file=file,
            field="opset_import",
            remedy=f"export the model with an opset from {OPSETS[0]} to {OPSETS[-1]}",
        )
    for node in deformable:
        read_deformable(node, file)


def read_deformable(node: NodeProto, file: Path | None = None) -> Deformable:
    """Read the attributes of a `DeformableConv2D` as ATC's parser does.

    Raises:
        HarnessError: An attribute is missing, has a length that the parser refuses, or is unknown and would be ignored.
    """
    where = f"node '{node.name}' (DeformableConv2D)"
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    for name in given:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1)
            raise HarnessError(
                f"{where} has an attribute '{name}', which ATC ignores without a word",
                file=file,
                field=name,
                remedy=f"did you mean '{near[0]}'?" if near else f"known are {', '.join(KNOWN)}",
            )
    missing = [name for name in (*PAIRS[:2], "groups") if name not in given]
    if missing:
        default = "0" if missing[0] == "groups" else "nothing"
        raise HarnessError(
            f"{where} lacks '{missing[0]}', for which ATC takes {default}",
            file=file,
            field=missing[0],
            remedy="write it out",
        )
    if not given.get("modulated", 1):
        raise HarnessError(f"{where} is not modulated, and CANN has only DCNv2", file=file, field="modulated")
    strides, pads, dilations = (_pair(name, given.get(name, [1, 1]), where, file) for name in PAIRS)
    return Deformable(strides, pads, dilations, given["groups"], given.get("deformable_groups", 1))


def _pair(name: str, values: int | list[int], where: str, file: Path | None) -> tuple[int, int]:
    numbers = [values] if isinstance(values, int) else list(values)
    if len(numbers) not in (1, 2):
        raise HarnessError(
            f"{where} has {len(numbers)} '{name}', and ATC reads 1 or 2 (vertical, horizontal)",
            file=file,
            field=name,
            remedy="write two: an operator pads as much at the bottom as at the top, and right as left",
        )
    return numbers[0], numbers[-1]
