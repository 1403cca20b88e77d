"""What tpu_mlir made of a model, read from its own text: which operators stay in float, which left the chip."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.convert.walk import serving_one_output, walk_back
from harness.errors import HarnessError

OPERATION = re.compile(
    r"^\s*(?P<results>%[\w:]+(?:, %[\w:]+)*) = \"(?P<kind>[\w.]+)\"\((?P<operands>[^)]*)\)"
    r".*loc\((?P<place>#loc\d+|\"[^\"]*\")\)$"
)
LOCATION = re.compile(r"^(#loc\d+) = loc\((?:fused\[)?\"([^\"]*)\"")
RETURN = re.compile(r"^\s*return (?P<operands>[^:]*):")
HOST = re.compile(r'"tpu\.GenericCpu".*?cpu_op_name = "([^"]*)"')
NO_WORK = ("top.Weight", "top.Input", "top.None")
RELU = "do_relu = true"
OFF_CHIP = "tpu.GenericCpu"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator of a graph.

    Attributes:
        name: As qtables and calibration tables name it.
        kind: Such as "top.Conv".
        operands: SSA names of what it takes.
        relu: Whether a ReLU, with or without a limit, is part of it.
    """

    name: str
    kind: str
    operands: tuple[str, ...]
    relu: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """The operators of a .mlir by their SSA names, in order, and what the graph returns."""

    operations: dict[str, Operation]
    returned: tuple[str, ...]

    @property
    def samplers(self) -> list[Operation]:
        """The bilinear samplers of the deformable convolutions."""
        return [operation for operation in self.operations.values() if operation.kind.endswith(".GridSampler")]

    def grid_of(self, sampler: Operation) -> tuple[list[Operation], list[Operation]]:
        """What computes the coordinates of a sampler: the arithmetic, and the convolutions that it starts from."""
        return self._back_to_convolutions(sampler.operands[1:2])

    def product_of(self, sampler: Operation) -> list[Operation]:
        """What is done with the samples: the mask, the product with it, and the convolution that sums up."""
        found: list[Operation] = []
        own = {name for name, operation in self.operations.items() if operation is sampler}
        for name, operation in self.operations.items():  # in order: what is used stands before its users
            if own.isdisjoint(operation.operands):
                continue
            found.append(operation)
            if operation.kind != "top.Conv":
                own.add(name)
            if operation.kind == "top.Mul":
                found += self._back_to_convolutions(tuple(o for o in operation.operands if o not in own))[0]
        return found

    def heads(self) -> list[Operation]:
        """What computes one output and no other: all that comes after the last map that the heads share.

        Of a single output that is no concatenation, the last convolutions.
        """
        outputs = self.returned
        if len(outputs) == 1 and self.operations[outputs[0]].kind == "top.Concat":
            outputs = self.operations[outputs[0]].operands
        if len(outputs) == 1:
            return self._back_to_convolutions(outputs)[1]
        nodes = [(operation, (name,), operation.operands) for name, operation in self.operations.items()]
        return [operation for operation in serving_one_output(nodes, outputs) if operation.kind not in NO_WORK]

    def _back_to_convolutions(self, start: tuple[str, ...]) -> tuple[list[Operation], list[Operation]]:
        """Return the operators that compute some tensors, back to the nearest convolutions, and those convolutions."""

        def inputs(operation: Operation) -> tuple[str, ...]:
            return () if operation.kind == "top.Conv" else operation.operands

        found = [o for o in walk_back(start, self.operations.get, inputs) if o.kind not in NO_WORK]
        return [o for o in found if o.kind != "top.Conv"], [o for o in found if o.kind == "top.Conv"]


def read_graph(path: Path) -> Graph:
    """The graph of a .mlir file.

    Raises:
        HarnessError: It has no operators, or not in the form that this version of tpu_mlir writes.
    """
    text = path.read_text(encoding="utf-8")
    places = {match[1]: match[2] for match in map(LOCATION.match, text.splitlines()) if match}
    operations: dict[str, Operation] = {}
    returned: tuple[str, ...] = ()
    for line in text.splitlines():
        match = OPERATION.match(line)
        if match:
            place = match["place"]
            name = places.get(place, place.strip('"'))
            operands = tuple(part.strip().partition("#")[0] for part in match["operands"].split(",") if part.strip())
            for result in match["results"].split(", "):
                operations[result.partition(":")[0]] = Operation(name, match["kind"], operands, RELU in line)
        elif match := RETURN.match(line):
            returned = tuple(part.strip().partition("#")[0] for part in match["operands"].split(","))
    if not operations or not returned:
        raise HarnessError("not the graph of a model in the form that tpu_mlir writes", file=path)
    return Graph(operations, returned)


def float_operators(graph: Graph, mode: str, chip_float: str) -> dict[str, str]:
    """Operators that do not take the precision of the rest, and theirs: what goes into a quantization table.

    Coordinates in float16 are known to 2^-11 of the map, 0.03 pixels at a width of 128. Of all the samplers it is the
    last one, which the heads read, that this shows in: in float32 it lifts every head by 10 dB for 1 ms of the whole
    DLA-34 on BM1684X, all the others together by 3 dB more for 9 ms (``reports/sophon.md``). Under INT8 the deformable
    convolutions and the heads stay in float: one scale for 27 channels of offsets in pixels and masks, or for a heatmap
    of logits, leaves neither exact. So does the sum of a tensor and a constant with a ReLU in it, as in the hard
    sigmoid: the compiler for BM1684X ends with "tpu_bdc_int_add_C: Assertion" on the first of them.

    Args:
        graph: Of the model, before it was lowered to a chip.
        mode: Precision of the rest: "F32", "F16", "BF16", "INT8".
        chip_float: What the chip's other floating precision is under INT8, "F16" or "F32".
    """
    if mode == "F32":
        return {}
    table: dict[str, str] = {}
    if mode == "INT8":
        for sampler in graph.samplers:
            arithmetic, convolutions = graph.grid_of(sampler)
            kept = (*convolutions, *arithmetic, sampler, *graph.product_of(sampler))
            table |= {operation.name: chip_float for operation in kept}
        table |= {operation.name: chip_float for operation in graph.heads()}
        sums = [operation for operation in graph.operations.values() if operation.kind == "top.AddConst"]
        table |= {operation.name: chip_float for operation in sums if operation.relu}
    for sampler in graph.samplers[-1:]:
        table |= {operation.name: "F32" for operation in (*graph.grid_of(sampler)[0], sampler)}
    return table


def named_operators(graph: Graph, tensors: Sequence[str]) -> list[Operation]:
    """The operators that give these tensors of the ONNX.

    Raises:
        HarnessError: There is none of a name.
    """
    known = {operation.name.rpartition("_")[0]: operation for operation in graph.operations.values()}
    for tensor in tensors:
        if tensor not in known:
            near = ", ".join(difflib.get_close_matches(tensor, known, n=3))
            raise HarnessError(
                f"no operator of the model gives '{tensor}'",
                field="int8.keep_float",
                remedy="use names as the report of an int8 run has them" + (f", such as {near}" if near else ""),
            )
    return [known[tensor] for tensor in tensors]


def host_operators(lowered: Path) -> list[str]:
    """Operators of a model lowered to a chip that run on the host's CPU instead, in order, once each time.

    Args:
        lowered: The ``*_tpu.mlir`` of the conversion.
    """
    lines = [line for line in lowered.read_text(encoding="utf-8").splitlines() if f'"{OFF_CHIP}"' in line]
    found = [HOST.search(line) for line in lines]
    return [match[1] if match else "unnamed" for match in found]
