"""What a port of any forms would give on some images: computed once for each part that ports have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.preprocess import place
from harness.faults.decoding import decode_in
from harness.faults.forms import Forms, NetForm, PrepForm
from harness.faults.outputs import source_of, spoil
from harness.faults.port import Arrays, Runner
from harness.faults.prep import prepare
from harness.faults.writing import PADDED_BATCH, Rows, rows_of
from harness.types import Placement, UInt8

KEPT = 96
"""Raw heads that are kept in memory: 5 MB each at 512x512."""

Image = NDArray[Any]


@dataclass
class Chain:
    """Predicts inputs, heads and results of one image after another.

    Attributes:
        card: The contract.
        runner: The reference's network.
        images: (H, W, 3) uint8, BGR, in the order of the run.
        ids: Their COCO ids.
        batch_size: Of the run.
        numbers: Place of each image in the run, from 1; of all images where `images` are some of them.
        count: Number of images in the run.
        inputs: What the port itself fed, by image; None for what the forms say.
        heads: What the port itself decoded, by image; None for what the forms say.
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
    _prepared: OrderedDict[tuple[PrepForm, int], tuple[Image, Placement]] = field(default_factory=OrderedDict)
    _largest: dict[tuple[str, int], float] = field(default_factory=dict)
    _raw: OrderedDict[tuple[PrepForm, NetForm, int], Arrays] = field(default_factory=OrderedDict)

    def input_of(self, forms: Forms, index: int) -> tuple[Image, Placement]:
        """The network input of an image, and where the port believes it to lie."""
        if self.inputs is not None:
            size = (self.images[index].shape[1], self.images[index].shape[0])
            return self.inputs[index], place(self.card, size)
        key = (forms.prep, index)
        if key not in self._prepared:
            self._prepared[key] = prepare(self.card, forms.prep, self.images[index])
            if len(self._prepared) > KEPT:
                self._prepared.popitem(last=False)
        return self._prepared[key]

    def heads_of(self, forms: Forms, index: int) -> Arrays:
        """The heads (1, channels, h, w) that come back for an image."""
        if self.heads is not None:
            return self.heads[index]
        source = source_of(forms.slots, index, self.batch_size)
        return spoil(self.card, forms.heads, forms.number, self._raw_of(forms, source))

    def largest(self, name: str, index: int) -> float:
        """Largest magnitude of a right head of an image."""
        if (name, index) not in self._largest:
            self._largest[name, index] = float(np.abs(self.heads_of(Forms(), index)[name]).max())
        return self._largest[name, index]

    def _raw_of(self, forms: Forms, index: int) -> Arrays:
        key = (forms.prep, forms.net, index)
        if key in self._raw:
            self._raw.move_to_end(key)
            return self._raw[key]
        # A slot beyond the last image is empty.
        array = self.input_of(forms, min(index, len(self.images) - 1))[0]
        array = array if index < len(self.images) else np.zeros_like(array)
        self._raw[key] = self.runner(forms.net, array[None])
        if len(self._raw) > KEPT:
            self._raw.popitem(last=False)
        return self._raw[key]

    def rows_of(self, forms: Forms, index: int) -> Rows | None:
        """The rows of an image in the results file; None where its heads cannot be decoded."""
        heads = self.heads_of(forms, index)
        number = self.numbers[index] if self.numbers else index + 1
        count = self.count or len(self.images)
        if forms.write.dropped and number % forms.write.dropped == 0:
            return []
        grid = self.card.grid if not self.card.input.keep_res else heads["hm"].shape[2:]
        if any(v.shape[1:] != (self.card.head_channels[n], *grid) for n, v in heads.items()):
            return None
        try:
            found = decode_in(self.card, forms.decode, heads)
        except NonFiniteHeadError:
            return None
        placement = self.input_of(forms, index)[1]
        rows = rows_of(self.card, forms.write, self.ids[index], found, placement)
        return rows * (1 + (-number % PADDED_BATCH if forms.write.padding and number == count else 0))


def representable(arrays: Arrays) -> bool:
    """Whether float16 has all these numbers."""
    with np.errstate(over="ignore"):
        return all(np.array_equal(a, a.astype(np.float16).astype(a.dtype), equal_nan=True) for a in arrays.values())
