"""Prediction of a faulty port's inputs, heads and results; what two ports have in common is computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.preprocess import place
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.port import Runner
from harness.faults.port_spec import PortSpec
from harness.faults.stages.batch import source_of
from harness.faults.stages.decode import decode_as
from harness.faults.stages.heads import spoil
from harness.faults.stages.network import NetworkSpec
from harness.faults.stages.numeric import Arrays
from harness.faults.stages.preprocess import Image, PreprocessSpec, prepare
from harness.faults.stages.results import PADDED_BATCH, Rows, rows_of
from harness.types import Placement, UInt8

PIXELS = 512 * 512
"""Pixels of the network input for which the costs of the table hold."""


@dataclass
class Evaluations:
    """Number of evaluations by class.

    Attributes:
        arithmetic: Network inputs, heads or results computed from what is there.
        network: Runs of the right network on one image.
        faulty_network: Runs of a network with a fault on one image.
    """

    arithmetic: int = 0
    network: int = 0
    faulty_network: int = 0

    def work(self, pixels: int) -> float:
        """Add up the units of work, of an input of so many pixels."""
        cost = TABLE.cost
        units = cost.arithmetic * self.arithmetic + cost.network * self.network
        return (units + cost.faulty_network * self.faulty_network) * pixels / PIXELS


@dataclass
class Chain:
    """Predicts inputs, heads and results of one image after another, and counts the evaluations.

    Attributes:
        card: The contract.
        runner: The reference's network.
        images: (H, W, 3) uint8, BGR, in the order of the run.
        ids: COCO ids of the images.
        batch_size: Of the run.
        numbers: Place of each image in the run, from 1; of all images where `images` are some of them.
        count: Number of images in the run.
        inputs: Network inputs that the port itself fed, by image; None to predict them.
        heads: Heads that the port itself decoded, by image; None to predict them.
        repeated: Whether the port had run the same images just before.
        evaluations: Made so far.
    """

    card: ModelCard
    runner: Runner
    images: Sequence[UInt8]
    ids: Sequence[int]
    batch_size: int = 1
    numbers: Sequence[int] = ()
    count: int = 0
    inputs: Sequence[Image] | None = None
    heads: Sequence[Arrays] | None = None
    repeated: bool = False
    evaluations: Evaluations = field(default_factory=Evaluations)
    _prepared: OrderedDict[tuple[PreprocessSpec, int], tuple[Image, Placement]] = field(default_factory=OrderedDict)
    _largest: dict[tuple[str, int], float] = field(default_factory=dict)
    _raw: OrderedDict[tuple[PreprocessSpec, NetworkSpec, int], Arrays] = field(default_factory=OrderedDict)

    def input_of(self, port: PortSpec, index: int) -> tuple[Image, Placement]:
        """Predict the network input of an image, and where the port takes the image to lie."""
        self.evaluations.arithmetic += 1
        if self.inputs is not None:
            size = (self.images[index].shape[1], self.images[index].shape[0])
            return self.inputs[index], place(self.card, size)
        key = (port.preprocess, index)
        if key not in self._prepared:
            self._prepared[key] = prepare(self.card, port.preprocess, self.images[index])
            if len(self._prepared) > TABLE.cost.kept:
                self._prepared.popitem(last=False)
        return self._prepared[key]

    def heads_of(self, port: PortSpec, index: int) -> Arrays:
        """Predict the heads (1, channels, h, w) that come back for an image."""
        self.evaluations.arithmetic += 1
        if self.heads is not None:
            return self.heads[index]
        source = source_of(port.batch, index, self.batch_size, len(self.images) if self.repeated else 0)
        return spoil(self.card, port.heads, port.numeric, self._raw_of(port, source))

    def largest(self, name: str, index: int) -> float:
        """Find the largest magnitude of a right head of an image."""
        if (name, index) not in self._largest:
            self._largest[name, index] = float(np.abs(self.heads_of(PortSpec(), index)[name]).max())
        return self._largest[name, index]

    @property
    def work(self) -> float:
        """Units of work done so far, see ``search.toml``."""
        return self.evaluations.work(self.card.input.height * self.card.input.width)

    def _raw_of(self, port: PortSpec, index: int) -> Arrays:
        key = (port.preprocess, port.network, index)
        if key in self._raw:
            self._raw.move_to_end(key)
            return self._raw[key]
        # A slot beyond the last image is empty.
        array = self.input_of(port, min(index, len(self.images) - 1))[0]
        array = array if index < len(self.images) else np.zeros_like(array)
        if port.network == NetworkSpec():
            self.evaluations.network += 1
        else:
            self.evaluations.faulty_network += 1
        self._raw[key] = self.runner(port.network, array[None])
        if len(self._raw) > TABLE.cost.kept:
            self._raw.popitem(last=False)
        return self._raw[key]

    def rows_of(self, port: PortSpec, index: int) -> Rows | None:
        """Predict the rows of an image in the results file; None if its heads cannot be decoded."""
        self.evaluations.arithmetic += 1
        heads = self.heads_of(port, index)
        number = self.numbers[index] if self.numbers else index + 1
        count = self.count or len(self.images)
        if port.results.dropped and number % port.results.dropped == 0:
            return []
        grid = self.card.grid if not self.card.input.keep_res else heads["hm"].shape[2:]
        if any(v.shape[1:] != (self.card.head_channels[n], *grid) for n, v in heads.items()):
            return None
        try:
            found = decode_as(self.card, port.decode, heads)
        except NonFiniteHeadError:
            return None
        placement = self.input_of(port, index)[1]
        rows = rows_of(self.card, port.results, self.ids[index], found, placement)
        return rows * (1 + (-number % PADDED_BATCH if port.results.padding and number == count else 0))


def representable(arrays: Arrays) -> bool:
    """Tell whether float16 can represent all these numbers."""
    with np.errstate(over="ignore"):
        return all(np.array_equal(a, a.astype(np.float16).astype(a.dtype), equal_nan=True) for a in arrays.values())
