"""Meanings of the error codes of CANN, with remedies."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorMeaning:
    """The meaning of an error code.

    Attributes:
        code: The code as the tool prints it.
        meaning: The error.
        remedy: Advice how to correct it.
    """

    code: str
    meaning: str
    remedy: str


OPSET = "convert an ONNX of opset 9 to 16: the dialect 'ascend' of 'harness export' writes 11"
SOC = "take the name that 'npu-smi info' shows, with 'Ascend' before it, such as Ascend310P3 or Ascend310B1"

_TABLE: tuple[tuple[str, str, str, str], ...] = (
    # code, pattern that the text must match too, meaning, remedy
    ("E10001", r"input_shape", "the input of the model has another name or shape than --input_shape", "use the "
     "input's own name, as 'convert' writes it"),
    ("E10001", "", "an argument has a value that atc does not know", "correct the argument that is named"),
    *((code, "", "an argument is missing or wrong", "correct the argument that is named")
      for code in ("E10003", "E10005", "E10006", "E10014", "E10015")),
    ("E10016", "", "--out_nodes names a node that the model does not have",
     "take the names from this very file, as 'convert' does: they change with the exporter's version"),
    ("E11017", "", "--out_nodes names a node that the model does not have",
     "take the names from this very file, as 'convert' does: they change with the exporter's version"),
    ("E10018", "", "an axis beside the batch is open", "export with a fixed height and width"),
    ("E10034", "", "AIPP and --input_fp16_nodes are asked for on one input", "leave one of them out"),
    ("E10054", "", "an argument is empty, often for want of quotes around ';'", "quote the argument"),
    ("E16002", "", "the model has an operator that ATC cannot read", OPSET),
    ("E76002", "", "the model has an operator that ATC cannot read", OPSET),
    ("E16005", "", "the ONNX has two opset domains, and ATC takes one", "export again: the dialect 'ascend' has one"),
    ("E19005", "", "the file cannot be parsed", "compare its size with its source, and run onnx.checker on it"),
    ("E19010", r"ai\.onnx::1[7-9]|ai\.onnx::2", "the opset is newer than this ATC reads", OPSET),
    ("E19010", "", "the model has an operator that ATC does not have",
     "export deformable convolutions as DeformableConv2D: the dialect 'ascend' does"),
    ("EZ9010", r"ai\.onnx::1[7-9]|ai\.onnx::2", "the opset is newer than this ATC reads", OPSET),
    ("EZ9010", "", "the model has an operator that ATC does not have",
     "export deformable convolutions as DeformableConv2D: the dialect 'ascend' does"),
    ("EZ3002", "", "an operator is not supported on this chip", "look at the reason that is named with it"),
    ("EZ3003", "", "no kernel of this chip serves an operator", "install the operator package of this chip (kernels)"),
    ("E20001", "", "an operator could not be compiled", "try another --precision_mode: it changes what is compiled"),
    ("E40021", "", "an operator could not be compiled", "try another --precision_mode: it changes what is compiled"),
    ("EE1001", "", "this CANN does not know the soc, or the om is for another", SOC),
    ("E19999", "", "an error within CANN, often of toolkit and operator package of different versions",
     "install both of one version"),
    ("EZ9999", "", "an error within CANN", "look at the first error in the log"),
    ("EL003", "", "the device cannot be opened", "look at 'npu-smi info', and at who else uses the device"),
    ("507033", "", "the device cannot be opened", "look at 'npu-smi info', and at who else uses the device"),
    ("500002", "", "the om cannot be loaded: made for another chip, or by a newer CANN than runs here",
     f"convert it again on this host; {SOC}"),
)  # fmt: skip
KINDS = {"1": "the call is wrong", "2": "a resource is missing", "3": "the task failed", "5": "CANN itself failed"}
"""Meanings of the codes of pyACL by the first of their six digits."""


def explain(text: str) -> tuple[ErrorMeaning, ...]:
    """Explain the known codes in a tool's output, in their order.

    Args:
        text: The whole output.
    """
    found: dict[str, tuple[int, ErrorMeaning]] = {}
    for code, context, meaning, remedy in _TABLE:
        place = re.search(rf"(?<![0-9A-Z]){code}(?!\d)", text)
        if place is not None and code not in found and re.search(context, text):
            found[code] = (place.start(), ErrorMeaning(code, meaning, remedy))
    return tuple(explanation for _, explanation in sorted(found.values(), key=lambda item: item[0]))


def explain_status(status: int) -> ErrorMeaning:
    """Explain the code that a call of pyACL returned."""
    known = explain(str(status))
    if known:
        return known[0]
    kind = KINDS.get(f"{status:06}"[0], "no code of the documented kinds")
    return ErrorMeaning(str(status), kind, "look it up in the ACL error codes of the installed CANN")
