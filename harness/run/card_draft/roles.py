"""Assignment of outputs to heads: every assignment that the shapes allow, and how well the values speak for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.centernet.decode import sigmoid
from harness.types import Float32, Outputs

Box = Literal["wh+reg", "ltrb"]
BACKGROUND = 0.2
"""Probability below which half the cells of a channel of a heatmap lie at least."""
OFFSETS = (-0.25, 1.25)
"""Cells that offsets of centres lie within."""
MIDDLE = (0.2, 0.8)
"""Cells that half of the offsets lie above, and half below; those of a heatmap that looks like offsets lie near 0."""
LEAST_SIZE = 0.2
"""Cells that half the boxes extend at least, to every side."""
PEAKS = 100
"""Cells of each image that boxes and offsets are looked at: those of the highest heatmap values."""
NO_OFFSETS = 0.5
"""Plausibility of a model without offsets: less than that of good ones, more than that of wrong ones."""


@dataclass(frozen=True, slots=True)
class Block:
    """Channels of an output tensor: those from `start` to before `stop`."""

    tensor: str
    start: int
    stop: int

    def of(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """(N, channels, h, w) of outputs."""
        return outputs[self.tensor][:, self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Roles:
    """One reading of the outputs.

    Attributes:
        blocks: Of each head, in the order of the card.
        box: Kind of the boxes.
        concatenated: Whether all heads lie in one tensor.
        mixed: Whether some heads lie in one tensor and some not, which no card can say.
    """

    blocks: tuple[tuple[str, Block], ...]
    box: Box
    concatenated: bool = False
    mixed: bool = False

    @property
    def classes(self) -> int:
        """Channels of the heatmap."""
        hm = dict(self.blocks)["hm"]
        return hm.stop - hm.start

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads in the order of the card."""
        return tuple(head for head, _ in self.blocks)

    def place_of(self, head: str) -> str:
        """Place of a head, in words."""
        block = dict(self.blocks)[head]
        part = f", channels {block.start} to {block.stop - 1}" if self.concatenated or self.mixed else ""
        return f"'{block.tensor}'{part}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors as a card has them."""
        return tuple(dict.fromkeys(block.tensor for _, block in self.blocks))


def possible_roles(channels: Mapping[str, int]) -> Iterator[Roles]:
    """Every reading of outputs on one grid.

    Args:
        channels: Of each output, by name, in the order of the file.
    """
    whole = {name: Block(name, 0, count) for name, count in channels.items()}
    for hm in channels:
        for box in channels:
            if box != hm and channels[box] in (2, 4):
                kind: Box = "wh+reg" if channels[box] == 2 else "ltrb"
                offsets = [name for name in channels if name not in (hm, box) and channels[name] == 2]
                for reg in (*offsets, None):
                    chosen = {hm: "hm", box: "wh"} | ({} if reg is None else {reg: "reg"})
                    yield Roles(tuple((chosen[name], whole[name]) for name in channels if name in chosen), kind)
            if box != hm and channels[box] == 4:
                for order in permutations(("wh", "reg")):
                    parts = _cut(box, order, {"wh": 2, "reg": 2})
                    yield Roles((("hm", whole[hm]), *parts), "wh+reg", mixed=True)
    for name, count in channels.items():
        yield from _joined(name, count)


def _joined(name: str, count: int) -> Iterator[Roles]:
    kinds: tuple[tuple[Box, dict[str, int]], ...] = (
        ("wh+reg", {"wh": 2, "reg": 2}),
        ("ltrb", {"wh": 4}),
        ("wh+reg", {"wh": 2}),
        ("ltrb", {"wh": 4, "reg": 2}),
    )
    for box, others in kinds:
        classes = count - sum(others.values())
        if classes >= 1:
            for order in permutations(("hm", *others)):
                yield Roles(_cut(name, order, {"hm": classes, **others}), box, concatenated=True)


def _cut(tensor: str, order: Sequence[str], sizes: Mapping[str, int]) -> tuple[tuple[str, Block], ...]:
    blocks, start = [], 0
    for head in order:
        blocks.append((head, Block(tensor, start, start + sizes[head])))
        start += sizes[head]
    return tuple(blocks)


@dataclass(slots=True)
class Evidence:
    """Evidence of the outputs of some images about every reading of them.

    Attributes:
        plausible: By reading, the sum over the batches that were looked at, each 0 to 3.
        batches: How many these are.
        lowest: Least value of every channel of every output.
        highest: Largest value.
        sizes: By reading, sizes of boxes at peaks as shares of the grid's longer side.
    """

    readings: tuple[Roles, ...]
    plausible: dict[Roles, float] = field(default_factory=dict)
    batches: int = 0
    lowest: dict[str, Float32] = field(default_factory=dict)
    highest: dict[str, Float32] = field(default_factory=dict)
    sizes: dict[Roles, list[float]] = field(default_factory=dict)

    def take(self, outputs: Outputs, count: int) -> None:
        """Look at the outputs of a batch, of which the first `count` slots are images; not finite ones say nothing."""
        found = {name: np.asarray(values[:count], np.float32) for name, values in outputs.items()}
        used = {block.tensor for roles in self.readings for _, block in roles.blocks}
        found = {name: values for name, values in found.items() if name in used}
        if not all(np.isfinite(values).all() for values in found.values()):
            return
        self.batches += 1
        for name, values in found.items():
            low, high = values.min(axis=(0, 2, 3)), values.max(axis=(0, 2, 3))
            self.lowest[name] = np.minimum(self.lowest.get(name, low), low)
            self.highest[name] = np.maximum(self.highest.get(name, high), high)
        background = {name: np.median(values, axis=(0, 2, 3)) for name, values in found.items()}
        peaks: dict[Block, NDArray[np.intp]] = {}
        for roles in self.readings:
            blocks = dict(roles.blocks)
            hm = blocks["hm"]
            if hm not in peaks:
                peaks[hm] = _cells(hm.of(found))
            self._weigh(roles, blocks, found, background[hm.tensor][hm.start : hm.stop], peaks[hm])

    def _weigh(
        self,
        roles: Roles,
        blocks: Mapping[str, Block],
        found: Mapping[str, Float32],
        background: NDArray[Any],
        cells: NDArray[np.intp],
    ) -> None:
        size = _at(blocks["wh"].of(found), cells)
        plausible = _share_of_heatmap(blocks["hm"].of(found), background)
        plausible += _share_of_sizes(size) * (1 - _share_of_offsets(size))
        plausible += _share_of_offsets(_at(blocks["reg"].of(found), cells)) if "reg" in blocks else NO_OFFSETS
        self.plausible[roles] = self.plausible.get(roles, 0.0) + plausible
        longer = max(found[blocks["wh"].tensor].shape[2:])
        extents = size if roles.box == "wh+reg" else size[:, :2] + size[:, 2:]
        self.sizes.setdefault(roles, []).append(float(np.quantile(extents.max(axis=1), 0.9)) / longer)

    def ranked(self) -> list[tuple[Roles, float]]:
        """Readings by their mean plausibility, best first; of equals those of the file's order."""
        means = [(roles, self.plausible.get(roles, 0.0) / max(1, self.batches)) for roles in self.readings]
        return sorted(means, key=lambda item: -item[1])

    def holds_logits(self, roles: Roles) -> bool:
        """Whether values of the heatmap lie outside 0..1."""
        hm = dict(roles.blocks)["hm"]
        part = slice(hm.start, hm.stop)
        low, high = self.lowest[hm.tensor][part].min(), self.highest[hm.tensor][part].max()
        return bool(low < 0 or high > 1)

    def range_of(self, roles: Roles) -> tuple[float, float]:
        """Least and largest value of the heatmap."""
        hm = dict(roles.blocks)["hm"]
        part = slice(hm.start, hm.stop)
        return float(self.lowest[hm.tensor][part].min()), float(self.highest[hm.tensor][part].max())


def _cells(hm: Float32) -> NDArray[np.intp]:
    """(N, K) flat cells of the highest values over the classes."""
    over_classes = hm.max(axis=1).reshape(len(hm), -1)
    count = min(PEAKS, over_classes.shape[1])
    return np.argpartition(over_classes, -count, axis=1)[:, -count:]


def _at(values: Float32, cells: NDArray[np.intp]) -> Float32:
    """(N * K, channels) values at the cells."""
    flat = values.reshape(len(values), values.shape[1], -1)
    taken = np.take_along_axis(flat, cells[:, None], axis=2)
    return np.moveaxis(taken, 1, 2).reshape(-1, values.shape[1])


def _share_of_heatmap(hm: Float32, background: NDArray[Any]) -> float:
    """1 if every channel is nearly everywhere near 0, as probabilities or after a sigmoid; else half their share."""
    low, high = hm.min(axis=(0, 2, 3)), hm.max(axis=(0, 2, 3))
    probable = (low >= 0) & (high <= 1)
    level = np.where(probable, background, sigmoid(background))
    share = float((level < BACKGROUND).mean())
    return 1.0 if share == 1 else share / 2


def _share_of_sizes(values: Float32) -> float:
    """Share of positive values, half of it where a channel is mostly near 0, as those of a heatmap are."""
    share = float((values > 0).mean())
    return share if (np.median(values, axis=0) > LEAST_SIZE).all() else share / 2


def _share_of_offsets(values: Float32) -> float:
    within = ((values >= OFFSETS[0]) & (values <= OFFSETS[1])).mean(axis=0)
    middle = np.median(values, axis=0)
    return float((within * ((middle >= MIDDLE[0]) & (middle <= MIDDLE[1]))).mean())
