"""What each tensor should hold, what its layer is called in PyTorch, and how far a device may be off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.cards import ModelCard
from harness.cards.tolerances import Tolerance, load_tolerance
from harness.centernet.heads import read_heads
from harness.centernet.networks import HeadedNetwork
from harness.checks.comparison import Comparison, compare_values
from harness.checks.limits import amplification
from harness.devices.onnxruntime import open_unoptimised, run_session
from harness.divergence.graph import CutGraph
from harness.export.network import CardNetwork
from harness.run.subject import Subject

Arrays = dict[str, NDArray[Any]]
PARAMETER = re.compile(r"^(?:network\.|module\.|model\.)*(?P<layer>.+)\.(?:weight|bias)(?:_bias)?$")
NAMED_ALIKE = 0.5
"""Share of common tensor names from which on two graphs are of one exporter."""
SAME = 1e-4
"""Of the largest magnitude: a module's output and a tensor of our own export that are the same but for rounding."""


def run_on_host(graph: CutGraph, images: NDArray[np.generic]) -> Arrays:
    """Every tensor that depends on the input, by ONNX Runtime on the CPU with each node run as it is written."""
    names = [name for name in graph.made_by if name in graph.types]
    return dict(run_session(open_unoptimised(graph.until(names)), graph.inputs[0], images))


def layer_of(graph: CutGraph, place: int) -> str | None:
    """The module whose parameters a node has, by their checkpoint's names; None where it has none or they lost them."""
    for name in graph.nodes[place].input[1:]:
        match = PARAMETER.match(name) if name in graph.weights else None
        if match:
            return match["layer"]
    return None


def paired(graph: CutGraph, reference: CutGraph) -> dict[str, str]:
    """The tensor of `reference` that each tensor of `graph` should equal, of those that are known to correspond.

    Graphs of one exporter call their tensors alike. Of others, the layers that have parameters are known by them.
    """
    common = set(graph.values) & set(reference.values)
    if len(common) >= NAMED_ALIKE * len(graph.values):
        return {name: name for name in graph.values if name in common}
    layers = _by_layer(reference)
    pairs = {tensor: layers[layer] for layer, tensor in _by_layer(graph).items() if layer in layers}
    return pairs | {name: name for name in graph.outputs if name in reference.outputs}


def _by_layer(graph: CutGraph) -> dict[str, str]:
    found = ((layer_of(graph, place), node.output[0]) for place, node in enumerate(graph.nodes))
    return {layer: tensor for layer, tensor in found if layer is not None and tensor in graph.made_by}


def module_names(module: HeadedNetwork, card: ModelCard, images: NDArray[np.generic], values: Arrays) -> dict[str, str]:
    """Name of the PyTorch module that gives each tensor of our own export, found by what both compute.

    Args:
        module: The reference network.
        card: Its contract.
        images: One batch.
        values: What the export computes of it.
    """
    network = CardNetwork(module, card)
    outputs: dict[str, NDArray[np.generic]] = {}

    def note(name: str) -> None:
        def hook(part: nn.Module, given: tuple[Tensor, ...], result: object) -> None:
            if isinstance(result, Tensor) and name not in outputs:
                outputs[name] = result.detach().clone().numpy()  # a ReLU behind may write into it

        parts[name].register_forward_hook(hook)

    parts = {name: part for name, part in network.network.named_modules() if not isinstance(part, nn.Sequential)}
    for name in parts:
        if name:
            note(name)
    with torch.inference_mode():
        network(torch.from_numpy(images))
    found: dict[str, str] = {}
    for name, output in outputs.items():
        for tensor, value in values.items():
            if tensor not in found and value.shape == output.shape and _same(value, output):
                found[tensor] = name
    return found


def _same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    corner = (..., slice(0, 1))  # most differ at once
    scale = float(np.abs(other).max())
    return all(np.allclose(one[part], other[part], rtol=0, atol=SAME * scale) for part in (corner, ...))


@dataclass(frozen=True, slots=True)
class Expected:
    """The right values of the tensors that are known, and what they may differ by.

    Attributes:
        values: By the names of the graph that the device runs.
        tolerance: That of the precision.
        length: Accumulation length of the network.
        amplification: By how much the network carries rounding beyond the magnitude of its heads, on this image.
    """

    values: Arrays
    tolerance: Tolerance
    length: int
    amplification: float

    def allowed(self, name: str, amplification: float | None = None) -> float:
        """Largest absolute difference of a tensor; that of a layer fed with what is right has no amplification."""
        largest = float(np.abs(self.values[name]).max())
        return self.tolerance.allowed(self.length, largest * (amplification or self.amplification))

    def compare(self, name: str, got: NDArray[Any], amplification: float | None = None) -> Comparison:
        """Hold a tensor of the device to its right value."""
        expected, allowed = self.values[name], self.allowed(name, amplification)
        what = f"tensor {name}"
        if got.shape != expected.shape:
            problem = f"expected shape {expected.shape}, got {got.shape}"
            return Comparison(what, float("inf"), allowed, 0, problem)
        alone = got.ndim == 4 and len(got) == 1
        one, other = (got[0], expected[0]) if alone else (got, expected)
        return compare_values(what, one, other, allowed)


def amplification_of(subject: Subject, outputs: Arrays, images: NDArray[np.generic]) -> float:
    """By how much float32's own error exceeds what the magnitude of the heads explains; at least 1."""
    heads = read_heads(subject.card, {name: outputs[name] for name in subject.card.output.names}, len(images))
    exact = subject.second_opinion(images)
    return amplification(heads, exact, load_tolerance("fp32"), subject.accumulation_length)


def name_of(graph: CutGraph, place: int, names: dict[str, str]) -> str:
    """A node as its user knows it: by its PyTorch module, or by the last one before it."""
    node = graph.nodes[place]
    own = names.get(node.output[0]) or layer_of(graph, place)
    if own is not None:
        return own
    before = [graph.made_by[name] for name in node.input if name in graph.made_by]
    return f"{node.op_type} after {name_of(graph, max(before), names)}" if before else f"{node.op_type} of the input"


def listed(names: Sequence[str]) -> str:
    """Names for a message."""
    return ", ".join(names) or "none"
