"""Location of the first layer that a port computes wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harness.cards.tolerances import load_tolerance
from harness.checks.comparison import Comparison
from harness.devices.artifact import Artifact, Exported, require_batch_size
from harness.devices.base import Device
from harness.divergence.expected import (
    Arrays,
    Expected,
    amplification_of,
    layer_of,
    listed,
    module_names,
    name_of,
    paired,
    run_on_host,
)
from harness.divergence.graph import CutGraph, save
from harness.divergence.reproduction import Reproduction
from harness.divergence.search import Divergence, first_divergence
from harness.errors import HarnessError
from harness.export.load import stated_by
from harness.run.subject import Subject


@dataclass(frozen=True, slots=True)
class Located:
    """The first wrong layer.

    Attributes:
        divergence: The result of the search.
        layer: Name of the layer in PyTorch.
        operators: Kinds of the nodes, in order.
        alone: Comparison of the layer alone on the device with right inputs; None if it takes several tensors, since
            devices take one.
        on_host: The same comparison by ONNX Runtime on the host. If it fails too, the model is at fault.
        reproduction: Files that reproduce the error, not written yet.
    """

    divergence: Divergence
    layer: str
    operators: tuple[str, ...]
    alone: Comparison | None
    on_host: Comparison
    reproduction: Reproduction


class LayerSearch:
    """A search for the first wrong layer of a port on a device, on one image.

    Args:
        subject: The model.
        device: The device that runs it.
        precision: Precision of the run.
        image: One network input, without batch.
        folder: Folder for intermediate files.

    Raises:
        HarnessError: The device takes no ONNX, or the precision has no tolerance for a single layer.
    """

    def __init__(
        self, subject: Subject, device: Device, precision: str, image: NDArray[np.generic], folder: Path
    ) -> None:
        self.device, self.precision, self.folder = device, precision, folder
        tolerance = load_tolerance(precision)
        if not tolerance.derivable:
            raise HarnessError(
                f"no layer can be held to a tolerance at {precision}: {tolerance.factor_reason}",
                field="--precision",
                remedy="look for the layer at fp32 or fp16",
            )
        if device.card.dialect in ("module", "torchscript"):
            raise HarnessError(
                f"device '{device.card.name}' takes the dialect '{device.card.dialect}', and only an ONNX can be cut",
                field="--device",
                remedy="choose a device that takes an ONNX",
            )
        exported = subject.exported(device.card, folder, 1)
        assert exported.path is not None
        self.exported = exported
        self.graph = CutGraph(exported.path)
        size = stated_by(self.graph.model).batch_size or 1
        require_batch_size(stated_by(self.graph.model).batch_size, size)
        self.images = np.repeat(image[None], size, axis=0)
        self.on_host = run_on_host(self.graph, self.images)
        reference, right = self.graph, self.on_host
        self.reference = "the same ONNX, run node by node on the host"
        if subject.module is not None and subject.onnx is not None:
            own = replace(subject, onnx=None).exported(device.card, folder, size)
            assert own.path is not None
            self.reference = "our export of the weights, run node by node on the host"
            reference = CutGraph(own.path)
            right = run_on_host(reference, self.images)
        pairs = paired(self.graph, reference)
        self.expected = Expected(
            {name: right[other] for name, other in pairs.items()},
            tolerance,
            subject.accumulation_length,
            amplification_of(subject, right, self.images),
        )
        self.names: dict[str, str] = {}
        if subject.module is not None:
            found = module_names(subject.module, subject.card, self.images, right)
            self.names = {name: found[other] for name, other in pairs.items() if other in found}

    def locate(self, whole: bool = False) -> tuple[Located | None, int]:
        """Search for the first wrong layer.

        Args:
            whole: Put the whole model into the reproduction.

        Returns:
            The layer, or None if all are right; and the number of runs of the device.
        """
        known = set(self.expected.values) & set(self.graph.values)
        found, runs = first_divergence(self.graph, known, self._measure)
        return (None if found is None else self._explain(found, whole)), runs

    def _measure(self, names: Sequence[str]) -> Mapping[str, Comparison]:
        path = save(self.graph.until(names), self.folder / "cut.onnx")
        artifact = self._convert(path)
        outputs = self.device.run(artifact, self.images)
        return {name: self.expected.compare(name, outputs[name]) for name in names}

    def _convert(self, path: Path) -> Artifact:
        exported = Exported(self.exported.card, self.exported.dialect, path=path)
        return self.device.convert(exported, len(self.images), self.precision)

    def _explain(self, found: Divergence, whole: bool) -> Located:
        model = self.graph.between(found.start, found.end)
        outputs = [value.name for value in model.graph.output if value.name in self.expected.values]
        given = {value.name: self._right(value.name) for value in model.graph.input}
        path = save(model, self.folder / "alone.onnx")
        options = ort.SessionOptions()
        session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        on_host = self._worst(dict(zip(outputs, session.run(outputs, given), strict=True)))
        alone = None
        if len(given) == 1:
            artifact = self._convert(path)
            got = self.device.run(artifact, next(iter(given.values())))
            alone = self._worst({name: got[name] for name in outputs})
        layer = self._layer(found)
        card = self.device.card
        reproduction = Reproduction(
            model=model,
            inputs=given,
            expected={name: self.expected.values[name] for name in outputs},
            allowed={name: self.expected.allowed(name, 1.0) for name in outputs},
            layer=layer,
            finding=f"The first layer of the model that is beyond tolerance. {found.worst}.",
            reading=_reading(on_host),
            device=(card.name, card.execution, self.precision),
            whole=self.graph.path if whole else None,
        )
        operators = tuple(node.op_type for node in self.graph.nodes[found.start : found.end])
        return Located(found, layer, operators, alone, on_host, reproduction)

    def _right(self, name: str) -> NDArray[np.generic]:
        if name in self.graph.inputs:
            return self.images
        return self.expected.values.get(name, self.on_host[name])

    def _worst(self, outputs: Arrays) -> Comparison:
        compared = [self.expected.compare(name, got, 1.0) for name, got in outputs.items()]
        return max(compared, key=lambda one: one.measured / one.allowed if one.allowed else one.measured)

    def _layer(self, found: Divergence) -> str:
        places = range(found.start, found.end)
        named = [layer_of(self.graph, place) for place in places]
        own = list(dict.fromkeys(name for name in named if name is not None))
        return listed(own) if own else name_of(self.graph, found.end - 1, self.names)


def _reading(on_host: Comparison) -> str:
    if on_host.problem is None:
        return (
            "ONNX Runtime computes what is expected, and the device does not: the device or its compiler is at fault."
        )
    return (
        "ONNX Runtime computes otherwise, too: the model itself is at fault, by this layer's operator, attributes, "
        "weights, or the tensors that it takes."
    )
