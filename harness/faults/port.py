"""Ports that compute by a `PortSpec`, right or wrong, as a device class or as a writer of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.cards import DeviceCard, ModelCard
from harness.centernet.heads import join_heads, output_specs, read_heads
from harness.centernet.networks import HeadedNetwork
from harness.devices.artifact import Artifact, Exported, TensorSpec
from harness.export.network import CardNetwork
from harness.faults.port_spec import PortSpec
from harness.faults.stages.batch import source_of
from harness.faults.stages.decode import decode_as
from harness.faults.stages.heads import spoil
from harness.faults.stages.network import NetworkSpec, faulty_network
from harness.faults.stages.numeric import Arrays
from harness.faults.stages.preprocess import prepare
from harness.types import Detections, Outputs, Placement, UInt8

Runner = Callable[[NetworkSpec, NDArray[np.generic]], Arrays]
"""Computes the heads of one batch by name, hm as logits, by a specification of the network."""


class TorchRunner:
    """Runs a network by any specification on PyTorch; each is built once.

    Args:
        card: The contract.
        module: The right network.
        half: Compute in float16.
    """

    def __init__(self, card: ModelCard, module: HeadedNetwork, *, half: bool = False) -> None:
        logits = card.output.model_copy(update={"hm": "logits"})
        self.card = card.model_copy(update={"output": logits})
        self.module, self.half = module, half
        self._built: dict[NetworkSpec, CardNetwork] = {}

    def __call__(self, spec: NetworkSpec, images: NDArray[np.generic]) -> Arrays:
        """Compute the heads of one batch."""
        if spec not in self._built:
            network = CardNetwork(faulty_network(self.module, spec), self.card)
            self._built[spec] = network.half() if self.half else network
        with torch.inference_mode():
            outputs = self._built[spec](torch.from_numpy(np.ascontiguousarray(images)))
        named = {name: output.numpy() for name, output in zip(self.card.output.names, outputs, strict=True)}
        return dict(read_heads(self.card, named, len(images)))


class OutputsRunner:
    """Runs a network whose layers are not known, such as an ONNX; it can only be run as it is.

    Args:
        card: The contract.
        run: Computes the outputs of one batch by name.
    """

    def __init__(self, card: ModelCard, run: Callable[[NDArray[np.generic]], Outputs]) -> None:
        self.card, self.run = card, run

    def __call__(self, spec: NetworkSpec, images: NDArray[np.generic]) -> Arrays:
        """Compute the heads of one batch."""
        if spec != NetworkSpec():
            raise ValueError(
                "no fault can be put into the network: only its outputs are known; pass the module (--weights) instead"
            )
        heads = dict(read_heads(self.card, self.run(images), len(images)))
        if self.card.output.hm == "probability":
            hm = np.clip(heads["hm"].astype(np.float64), 1e-12, 1 - 1e-7)
            heads["hm"] = np.log(hm / (1 - hm)).astype(np.float32)
        return heads


@dataclass(frozen=True)
class Port:
    """Port that computes by a specification.

    Attributes:
        card: The contract that it should keep.
        runner: Its network.
        spec: How it computes.
        batch_size: With which it runs.
    """

    card: ModelCard
    runner: Runner
    spec: PortSpec = field(default_factory=PortSpec)
    batch_size: int = 1

    def inputs(self, images: Iterable[UInt8]) -> list[tuple[NDArray[Any], Placement]]:
        """Compute the network input of each image, and where the port takes the image to lie."""
        return [prepare(self.card, self.spec.preprocess, image) for image in images]

    def heads(self, images: Iterable[UInt8]) -> list[Arrays]:
        """Compute the heads (1, channels, h, w) of each image, by name; a fault may change their shapes."""
        arrays = [array for array, _ in self.inputs(images)]
        count = len(arrays)
        places = [source_of(self.spec.batch, index, self.batch_size) for index in range(count)]
        # Slots beyond the last image are empty.
        arrays += [np.zeros_like(arrays[-1])] * max(0, 1 + max(places) - count)
        own = [self.head_of(array) for array in arrays]
        return [own[place] for place in places]

    def head_of(self, array: NDArray[Any]) -> Arrays:
        """Compute the heads of one network input."""
        heads = self.runner(self.spec.network, array[None])
        return spoil(self.card, self.spec.heads, self.spec.numeric, heads)

    def detections(self, images: Iterable[UInt8]) -> list[Detections]:
        """Compute the detections of each image, boxes in cells of the output grid."""
        return [decode_as(self.card, self.spec.decode, heads) for heads in self.heads(images)]


class PortDevice:
    """Device made of a port: computes outputs from the network inputs that the suite prepared.

    Args:
        card: Its device card.
        spec: How it computes its network, heads, numbers and batches.
        half: Compute in float16.
    """

    def __init__(self, card: DeviceCard, spec: PortSpec, *, half: bool = False) -> None:
        self.card, self.spec, self.half = card, spec, half
        self._before: Arrays | None = None

    def check(self) -> None:
        """Do nothing: it is always there."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Prepare to run the network by this port's specification."""
        del batch_size, precision
        assert isinstance(exported.module, HeadedNetwork)
        card = exported.one_stage
        runner = TorchRunner(card, exported.module, half=self.half)
        inputs = (TensorSpec(card.input.name, (None, None, None, None), card.input.dtype),)
        return Artifact((runner, card), inputs, output_specs(card, None), None)

    def close(self) -> None:
        """Do nothing: a network holds nothing open."""

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; stale samples are those of the call before."""
        payload: Any = artifact.payload
        runner, card = payload
        slots = len(images)
        own = spoil(card, self.spec.heads, self.spec.numeric, runner(self.spec.network, images))
        before, self._before = self._before, own
        found = own
        if before is not None and len(before["hm"]) == slots:
            joined = {name: np.concatenate([before[name], own[name]]) for name in own}
            places = [source_of(self.spec.batch, slots + slot, slots) for slot in range(slots)]
            found = {name: joined[name][places] for name in own}
        elif self.spec.batch.order in ("reversed", "first"):
            places = [source_of(self.spec.batch, slot, slots) for slot in range(slots)]
            found = {name: own[name][places] for name in own}
        return join_heads(card, found)


def write_heads_folder(folder: Path, stems: Iterable[str], heads: Iterable[Arrays]) -> None:
    """Write STEM.npz for each image, as `infer` and other tools do."""
    folder.mkdir(parents=True)
    for stem, arrays in zip(stems, heads, strict=True):
        np.savez(folder / f"{stem}.npz", **{name: values[0] for name, values in arrays.items()})


def write_inputs_folder(folder: Path, stems: Iterable[str], inputs: Iterable[NDArray[Any]]) -> None:
    """Write STEM.bin for each image, as `preprocess` and other tools do."""
    folder.mkdir(parents=True)
    for stem, array in zip(stems, inputs, strict=True):
        (folder / f"{stem}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
