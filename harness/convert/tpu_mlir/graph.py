"""The graph of a model in tpu_mlir's own text: operators to keep in float, and operators on the host."""

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
        name: Name in quantisation and calibration tables.
        kind: Kind, such as "top.Conv".
        operands: SSA names of its operands.
        relu: True if a ReLU, with or without a limit, is part of it.
    """

    name: str
    kind: str
    operands: tuple[str, ...]
    relu: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """The operators of a .mlir by their SSA names, in order, and the SSA names of its outputs."""

    operations: dict[str, Operation]
    returned: tuple[str, ...]

    @property
    def samplers(self) -> list[Operation]:
        """The bilinear samplers of the deformable convolutions."""
        return [operation for operation in self.operations.values() if operation.kind.endswith(".GridSampler")]

    def grid_of(self, sampler: Operation) -> tuple[list[Operation], list[Operation]]:
        """Return the operators for the coordinates of a sampler: the arithmetic, and the convolutions before it."""
        return self._back_to_convolutions(sampler.operands[1:2])

    def product_of(self, sampler: Operation) -> list[Operation]:
        """Return the users of the samples: the mask, the product with it, and the convolution that sums them."""
        found: list[Operation] = []
        own = {name for name, operation in self.operations.items() if operation is sampler}
        for name, operation in self.operations.items():  # the order is topological
            if own.isdisjoint(operation.operands):
                continue
            found.append(operation)
            if operation.kind != "top.Conv":
                own.add(name)
            if operation.kind == "top.Mul":
                found += self._back_to_convolutions(tuple(o for o in operation.operands if o not in own))[0]
        return found

    def heads(self) -> list[Operation]:
        """Return the operators that serve one output only: all after the last map that the heads share.

        For a single output that is no concatenation, these are the last convolutions.
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
    """Read the graph of a .mlir file.

    Raises:
        HarnessError: It has no operators in the form that this version of tpu_mlir writes.
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
    """Make a quantisation table: the operators that need another precision than the rest, with that precision.

    Coordinates in float16 are known to 2^-11 of the map, 0.03 pixels at a width of 128. The heads suffer most from the
    last sampler, which they read: in float32 it lifts every head by 10 dB for 1 ms of the whole DLA-34 on BM1684X. All
    other samplers together lift them by 3 dB more for 9 ms (``reports/sophon.md``).

    Under INT8 the deformable convolutions and the heads stay in float. A single scale for 27 channels of offsets in
    pixels and masks, or for a heatmap of logits, leaves neither exact. The sum of a tensor and a constant with a ReLU
    in it, as in the hard sigmoid, stays in float too: on the first of them the compiler for BM1684X ends with
    "tpu_bdc_int_add_C: Assertion".

    Args:
        graph: Graph of the model, before it was lowered to a chip.
        mode: Precision of the rest: "F32", "F16", "BF16", "INT8".
        chip_float: The chip's floating precision beside INT8, "F16" or "F32".
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
    """Find the operators that give some tensors of the ONNX.

    Raises:
        HarnessError: No operator gives a tensor of this name.
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
    """List the operators of a lowered model that run on the host's CPU, in order, one entry for each occurrence.

    Args:
        lowered: The ``*_tpu.mlir`` of the conversion.
    """
    lines = [line for line in lowered.read_text(encoding="utf-8").splitlines() if f'"{OFF_CHIP}"' in line]
    found = [HOST.search(line) for line in lines]
    return [match[1] if match else "unnamed" for match in found]
