"""A whole port made of forms: what a user's own program would compute, and the doors by which its work comes in.

The doors are those of any port: a device class, or files with inputs, heads and detections.
"""

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
from harness.faults.decoding import decode_in
from harness.faults.forms import Forms, NetForm
from harness.faults.net import faulty_network
from harness.faults.outputs import source_of, spoil
from harness.faults.prep import prepare
from harness.types import Detections, Outputs, Placement, UInt8

Arrays = dict[str, NDArray[Any]]
Runner = Callable[[NetForm, NDArray[np.generic]], Arrays]
"""From the form of the network and one batch to its heads by name, hm as logits."""


class TorchRunner:
    """Runs a network in any form on PyTorch; each form is built once.

    Args:
        card: The contract.
        module: The right network.
        half: Compute in float16.
    """

    def __init__(self, card: ModelCard, module: HeadedNetwork, *, half: bool = False) -> None:
        logits = card.output.model_copy(update={"hm": "logits"})
        self.card = card.model_copy(update={"output": logits})
        self.module, self.half = module, half
        self._built: dict[NetForm, CardNetwork] = {}

    def __call__(self, form: NetForm, images: NDArray[np.generic]) -> Arrays:
        """The heads of one batch."""
        if form not in self._built:
            network = CardNetwork(faulty_network(self.module, form), self.card)
            self._built[form] = network.half() if self.half else network
        with torch.inference_mode():
            outputs = self._built[form](torch.from_numpy(np.ascontiguousarray(images)))
        named = {name: output.numpy() for name, output in zip(self.card.output.names, outputs, strict=True)}
        return dict(read_heads(self.card, named, len(images)))


class OutputsRunner:
    """Runs a network that is known by its outputs only, in the one form that it has.

    Args:
        card: The contract.
        run: From one batch to outputs by name.
    """

    def __init__(self, card: ModelCard, run: Callable[[NDArray[np.generic]], Outputs]) -> None:
        self.card, self.run = card, run

    def __call__(self, form: NetForm, images: NDArray[np.generic]) -> Arrays:
        """The heads of one batch."""
        if form != NetForm():
            raise ValueError("nobody can look into this network")
        heads = dict(read_heads(self.card, self.run(images), len(images)))
        if self.card.output.hm == "probability":
            hm = np.clip(heads["hm"].astype(np.float64), 1e-12, 1 - 1e-7)
            heads["hm"] = np.log(hm / (1 - hm)).astype(np.float32)
        return heads


@dataclass(frozen=True)
class Port:
    """A port that computes in certain forms.

    Attributes:
        card: The contract that it should keep.
        runner: Its network.
        forms: How it computes.
        batch_size: With which it runs.
    """

    card: ModelCard
    runner: Runner
    forms: Forms = field(default_factory=Forms)
    batch_size: int = 1

    def inputs(self, images: Iterable[UInt8]) -> list[tuple[NDArray[Any], Placement]]:
        """The network input of each image, and where the port believes the image to lie."""
        return [prepare(self.card, self.forms.prep, image) for image in images]

    def heads(self, images: Iterable[UInt8]) -> list[Arrays]:
        """The heads (1, channels, h, w) of each image, by name; of another shape where the port mistakes them."""
        arrays = [array for array, _ in self.inputs(images)]
        count = len(arrays)
        places = [source_of(self.forms.slots, index, self.batch_size) for index in range(count)]
        # Slots beyond the last image are empty.
        arrays += [np.zeros_like(arrays[-1])] * max(0, 1 + max(places) - count)
        own = [self.head_of(array) for array in arrays]
        return [own[place] for place in places]

    def head_of(self, array: NDArray[Any]) -> Arrays:
        """The heads of one network input."""
        heads = self.runner(self.forms.net, array[None])
        return spoil(self.card, self.forms.heads, self.forms.number, heads)

    def detections(self, images: Iterable[UInt8]) -> list[Detections]:
        """The detections of each image, boxes in cells of the output grid."""
        return [decode_in(self.card, self.forms.decode, heads) for heads in self.heads(images)]


class PortDevice:
    """A port as a device: takes what the suite preprocessed, gives what the port's network and outputs make of it.

    Args:
        card: Its device card.
        forms: How it computes from there on.
        half: Compute in float16.
    """

    def __init__(self, card: DeviceCard, forms: Forms, *, half: bool = False) -> None:
        self.card, self.forms, self.half = card, forms, half
        self._before: Arrays | None = None

    def check(self) -> None:
        """It is there."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Take the network in the form of this port."""
        del batch_size, precision
        assert isinstance(exported.module, HeadedNetwork)
        card = exported.card
        runner = TorchRunner(card, exported.module, half=self.half)
        inputs = (TensorSpec(card.input.name, (None, None, None, None), card.input.dtype),)
        return Artifact((runner, card), inputs, output_specs(card, None), None)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, with the mistakes of the forms; what is stale is of the last call."""
        payload: Any = artifact.payload
        runner, card = payload
        slots = len(images)
        own = spoil(card, self.forms.heads, self.forms.number, runner(self.forms.net, images))
        before, self._before = self._before, own
        found = own
        if before is not None and len(before["hm"]) == slots:
            joined = {name: np.concatenate([before[name], own[name]]) for name in own}
            places = [source_of(self.forms.slots, slots + slot, slots) for slot in range(slots)]
            found = {name: joined[name][places] for name in own}
        elif self.forms.slots.order in ("reversed", "first"):
            places = [source_of(self.forms.slots, slot, slots) for slot in range(slots)]
            found = {name: own[name][places] for name in own}
        return join_heads(card, found)


def write_heads_folder(folder: Path, stems: Iterable[str], heads: Iterable[Arrays]) -> None:
    """STEM.npz for each image, as `infer` and other tools write them."""
    folder.mkdir(parents=True)
    for stem, arrays in zip(stems, heads, strict=True):
        np.savez(folder / f"{stem}.npz", **{name: values[0] for name, values in arrays.items()})


def write_inputs_folder(folder: Path, stems: Iterable[str], inputs: Iterable[NDArray[Any]]) -> None:
    """STEM.bin for each image, as `preprocess` and other tools write them."""
    folder.mkdir(parents=True)
    for stem, array in zip(stems, inputs, strict=True):
        (folder / f"{stem}.bin").write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
