"""Reading of result files as heads: outputs are told apart by card, by size and, if sizes are equal, by content."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import top_peaks
from harness.errors import HarnessError
from harness.files import read_regular

TENSOR_BYTES = 2**32
"""Most that a file of one tensor may have."""
Array = NDArray[np.floating]
FLOAT_TYPES: Mapping[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
MOST_OUTPUTS = 6
SOME = 61
"""Step between the values that are looked at first."""
SWAP_MARGIN = 0.2
"""Least lead of the best reading over the second, in plausibility, for the content to decide."""


@dataclass(frozen=True, slots=True)
class HeadOrder:
    """The assignment of outputs to heads, and their type.

    Attributes:
        places: Index of each head among the files of an image.
        dtype: "float32" or "float16".
        how: The criterion that told the heads apart, for the report.
    """

    places: Mapping[str, int]
    dtype: str
    how: str


def head_shapes(card: ModelCard) -> dict[str, tuple[int, int, int]]:
    """Return (channels, h, w) of each tensor, by head or, if they are concatenated, by all heads joined with "+".

    Raises:
        HarnessError: The card leaves the size open: a file without a header then has no shape.
    """
    if card.input.keep_res:
        raise HarnessError(
            "the tensors of a keep_res model have no shape that files could be held to",
            field="input.keep_res",
            remedy="run the model at a fixed resolution, or use 'infer' and 'decode'",
        )
    channels = card.head_channels
    if card.output.concatenated:
        return {"+".join(card.output.heads): (sum(channels.values()), *card.grid)}
    return {head: (channels[head], *card.grid) for head in card.output.heads}


def find_order(card: ModelCard, samples: Sequence[Sequence[Path]]) -> HeadOrder:
    """Tell the heads apart.

    Args:
        card: Gives the heads, their order and their shapes.
        samples: The files of a few images.

    Raises:
        HarnessError: The sizes of the first image's files are not those of the card's heads.
    """
    shapes = head_shapes(card)
    counts = [value_counts(path) for path in samples[0]]
    fitting = [
        (dict(zip(shapes, places, strict=True)), dtype)
        for dtype in FLOAT_TYPES
        for places in itertools.permutations(range(min(len(counts), MOST_OUTPUTS)), len(shapes))
        if all(counts[place].get(dtype) == np.prod(shapes[head]) for head, place in zip(shapes, places, strict=True))
    ]
    if not fitting:
        raise _other_sizes(card, samples[0])
    dtype = fitting[0][1]
    readings = [places for places, of in fitting if of == dtype]
    chosen, how = readings[0], "by size"  # the first permutation that fits keeps the card's order
    if len(readings) > 1 and not card.output.concatenated:
        chosen, how = _by_content(card, readings, dtype, samples)
    if list(chosen.values()) != sorted(chosen.values()):
        how += ", not as in the card"
    return HeadOrder(chosen, dtype, how)


def value_counts(path: Path) -> dict[str, int]:
    """Count the values of a file, for each type that it may have."""
    if path.suffix == ".bin":
        size = path.stat().st_size
        return {name: size // dtype.itemsize for name, dtype in FLOAT_TYPES.items() if size % dtype.itemsize == 0}
    if path.suffix == ".txt":
        return {"float32": read_file(path, "float32").size}
    array = _load_npy(path)
    return {str(array.dtype): array.size}


def read_file(path: Path, dtype: str) -> Array:
    """Read all values of a result file, in their order.

    Args:
        path: A ``.bin`` (raw, little-endian), a ``.npy`` or a ``.txt`` (decimals).
        dtype: Type of the values of a ``.bin``.

    Raises:
        HarnessError: The file cannot be read, or holds something other than floating numbers.
    """
    try:
        if path.suffix == ".bin":
            return np.frombuffer(read_regular(path, None, TENSOR_BYTES), FLOAT_TYPES[dtype])
        if path.suffix == ".npy":
            array = _load_npy(path)
            return array.ravel()
        with np.errstate(over="ignore"):  # what float32 has not is infinite, which the check of the head tells
            return np.array(read_regular(path, None, TENSOR_BYTES).decode("ascii").split(), np.float32)
    except (OSError, ValueError) as error:
        remedy = "copy it again, or run the image again"
        raise HarnessError(f"cannot be read: {error}", file=path, remedy=remedy) from error


def read_head(card: ModelCard, head: str, path: Path, dtype: str) -> Array:
    """Read one head of one image as (channels, h, w).

    Raises:
        HarnessError: The file cannot be read, or holds another number of values.
    """
    shape = head_shapes(card)[head]
    require_size(card, head, path, dtype)
    values = read_file(path, dtype)
    if values.size != np.prod(shape):
        raise HarnessError(
            f"{values.size} values, where head {head} takes {np.prod(shape)}",
            file=path,
            remedy="copy it again, or run the image again",
        )
    return values.reshape(shape)


def require_size(card: ModelCard, head: str, path: Path, dtype: str) -> None:
    """Refuse a file that is truncated or holds another shape.

    Raises:
        HarnessError: The file holds another number of values than the head has.
    """
    if path.suffix == ".txt":
        return  # its values are counted when they are read
    wanted = int(np.prod(head_shapes(card)[head]))
    found = value_counts(path).get(dtype)
    if found != wanted:
        raise HarnessError(
            f"{_bytes(path)}, where head {head} takes {wanted} values of {dtype}{_hint(path, wanted)}",
            file=path,
            remedy="copy it again, or run the image again",
        )


def _load_npy(path: Path) -> Array:
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what a damaged header raises is not documented
        raise HarnessError(f"no readable .npy file: {error}", file=path, remedy="copy it again") from error
    if str(array.dtype) not in FLOAT_TYPES:
        raise HarnessError(
            f"the file holds {array.dtype}, and heads are floating numbers",
            file=path,
            remedy="convert the model with float outputs (--output_type=FP32)",
        )
    return np.asarray(array)


def _by_content(
    card: ModelCard, readings: Sequence[dict[str, int]], dtype: str, samples: Sequence[Sequence[Path]]
) -> tuple[dict[str, int], str]:
    """Choose the reading whose heads are the most plausible; the card's own if the content does not decide."""
    marks = np.zeros(len(readings))
    for files in samples:
        seen = _Outputs(card, files, dtype)
        marks += [_plausibility(card, reading, seen) for reading in readings]
    marks /= len(samples)
    order = np.argsort(-marks, kind="stable")
    if marks[order[0]] - marks[order[1]] < SWAP_MARGIN:
        return readings[0], "by size and the card's order, since the content does not tell"
    return readings[order[0]], "by size and content"


class _Outputs:
    """The outputs of one image and the peaks of possible heatmaps; each is read or computed once."""

    def __init__(self, card: ModelCard, files: Sequence[Path], dtype: str) -> None:
        self.card, self.files, self.dtype = card, files, dtype
        self._values: dict[int, Array] = {}
        self._peaks: dict[int, NDArray[np.intp]] = {}

    def values(self, head: str, place: int) -> Array:
        """Read one output as the given head, (channels, h, w) float32."""
        if place not in self._values:
            self._values[place] = np.asarray(read_head(self.card, head, self.files[place], self.dtype), np.float32)
        return self._values[place]

    def peaks(self, place: int) -> NDArray[np.intp]:
        """Return flat indices of the best peaks of one output, read as hm."""
        if place not in self._peaks:
            self._peaks[place] = top_peaks(self.card, np.nan_to_num(self.values("hm", place)))[0]
        return self._peaks[place]


def _plausibility(card: ModelCard, places: Mapping[str, int], seen: _Outputs) -> float:
    """Rate how plausible a reading is at the peaks, from 0 to 3.

    Centres lie in their cell, so reg is between 0 and 1 there; boxes are mostly larger than a cell; a heatmap is in
    0..1 if and only if it holds probabilities.
    """
    hm, cells = seen.values("hm", places["hm"]), seen.peaks(places["hm"])
    mark = float(holds_probabilities(hm) == (card.output.hm == "probability"))
    _, rows, columns = np.unravel_index(cells, hm.shape)
    unit = card.decode.stride if card.output.box_unit == "input" else 1
    if len(cells):
        mark += float((seen.values("wh", places["wh"])[:, rows, columns] > 1.5 * unit).mean())
        if "reg" in places:
            reg = seen.values("reg", places["reg"])[:, rows, columns]
            mark += float(((reg > -0.5) & (reg < 1.5)).mean())
    return mark


def holds_probabilities(hm: Array) -> bool:
    """Tell whether all values lie in 0..1, as no heatmap of logits does."""
    some = hm.ravel()[::SOME]  # which tells logits in a fraction of the time
    return all(bool(part.min() >= 0 and part.max() <= 1) for part in (some, hm))


def _other_sizes(card: ModelCard, files: Sequence[Path]) -> HarnessError:
    wanted = ", ".join(f"{head} {np.prod(shape)} values" for head, shape in head_shapes(card).items())
    found = ", ".join(f"{path.name} {_bytes(path)}" for path in files)
    largest = max(int(np.prod(shape)) for shape in head_shapes(card).values())
    hint = _hint(max(files, key=lambda path: path.stat().st_size), largest)
    return HarnessError(
        f"the outputs are not the heads of '{card.name}': they are {found}; the card has {wanted}{hint}",
        file=files[0].parent,
        field="output",
        remedy="give the card of the model that was run, and run it with float32 inputs of one image a file",
    )


def _bytes(path: Path) -> str:
    if path.suffix == ".npy":
        array = _load_npy(path)
        return f"{array.dtype} of shape {array.shape}"
    return f"{path.stat().st_size} bytes"


def _hint(path: Path, wanted: int) -> str:
    """Suggest a reason for a size that does not fit."""
    if path.suffix != ".bin":
        return ""
    size = path.stat().st_size
    images = size / (4 * wanted)
    if images > 1 and images == int(images):
        return (
            f": as large as {int(images)} images, as if the om took one input file for a whole batch of "
            f"{int(images)} (an AIPP or fp16 input takes a quarter or half of the bytes)"
        )
    if size == wanted:
        return ": as large as uint8 values"
    return ": truncated" if size < 4 * wanted else ""
