"""Decoding of heads to detections: the peaks of the heatmap and the boxes at them.

The rules are those of the official ``ctdet_decode`` and ``ctdet_post_process``. These definitions fill their gaps:

Scores
    Logits become probabilities by ``1 / (1 + exp(-x))`` in float32, each step correctly rounded, so that equal logits
    give equal scores on every machine. Probabilities are taken as they are.
Peaks
    A cell is a peak if no cell of its class among the (up to eight) neighbours has a higher *score*. Equal neighbours
    are all peaks, also those that only float32 makes equal, where the sigmoid saturates.
Order
    Score descending; equal scores by class, then row, then column, ascending. Of peaks that tie for the last of the
    ``top_k`` places, the first in this order are taken.
Fewer peaks than ``top_k``
    Fewer detections. The official code fills up with cells that are no peaks, at score 0.
Score threshold
    Detections whose score is at most ``score_threshold`` are dropped, a score of 0 therefore always.
Centres
    ``wh+reg``: the integer cell plus reg, or plus 0.5 where the model has no such head. ``ltrb``: the integer cell,
    plus reg where there is one.
NaN and infinity
    Anywhere in the heads of a sample they are an error: they have no rank, and a box cannot be made of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.heads import find_misfit, head_specs
from harness.errors import HarnessError
from harness.types import Detections, Float32, Heads, Placement

Indices = NDArray[np.intp]


class NonFiniteHeadError(ValueError):
    """A head holds NaN or infinity, so that its sample has no detections.

    Args:
        head: "hm", "wh" or "reg".
        sample: Index in the batch.
        count: Number of values that are not finite.
    """

    def __init__(self, head: str, sample: int, count: int) -> None:
        self.head = head
        self.sample = sample
        self.count = count
        super().__init__(head, sample, count)

    def __str__(self) -> str:
        return f"head {self.head} of sample {self.sample} holds {self.count} value(s) that are NaN or infinite"


def decode(card: ModelCard, heads: Heads) -> list[Detections]:
    """Decode the heads of every sample to detections, boxes in cells of the output grid.

    Args:
        card: The contract of the model; ``output`` gives the meaning of the heads, ``decode`` the number of peaks.
        heads: The heads of a batch, of any floating type; the arithmetic is float32.

    Returns:
        One record a sample, at most ``top_k`` detections each, in the order the module states.

    Raises:
        HarnessError: The heads do not have the shapes that the card promises.
        NonFiniteHeadError: A head holds NaN or infinity.
    """
    _check_shapes(card, heads)
    samples = (finite_sample(heads, index) for index in range(len(heads["hm"])))
    return [detections_at(card, sample, top_peaks(card, sample["hm"])[0]) for sample in samples]


def finite_sample(heads: Heads, index: int) -> dict[str, Float32]:
    """The heads (channels, h, w) of one sample of a batch, in float32.

    Raises:
        NonFiniteHeadError: A head holds NaN or infinity.
    """
    sample = {name: np.ascontiguousarray(head[index], np.float32) for name, head in heads.items()}
    for name, head in sample.items():
        # Cheaper than isfinite, and enough: NaN spreads through both.
        if not (np.isfinite(head.min()) and np.isfinite(head.max())):
            raise NonFiniteHeadError(name, index, int((~np.isfinite(head)).sum()))
    return sample


def to_image_space(card: ModelCard, detections: Detections, placement: Placement) -> Detections:
    """Convert boxes of detections to pixels of the image, neither clipped nor rounded.

    Args:
        card: The contract of the model, for the stride of the grid.
        detections: Detections from `decode`.
        placement: Placement of the image from `preprocess`.
    """
    corners = detections.boxes.reshape(-1, 2).astype(np.float64) * card.decode.stride
    corners = corners @ placement.inverse[:, :2].T + placement.inverse[:, 2]
    with np.errstate(over="ignore"):  # such a box is infinite, which whoever takes it says
        return Detections(corners.reshape(-1, 4).astype(np.float32), detections.scores, detections.classes)


def top_peaks(card: ModelCard, hm: NDArray[np.floating]) -> tuple[Indices, Float32]:
    """Find the cells of one heatmap that become detections, in their order.

    Args:
        card: The contract of the model.
        hm: (classes, h, w), finite.

    Returns:
        Flat indices into `hm` and scores, both (K,), K at most ``top_k``.
    """
    # The score never falls as the value rises. So the highest score around a cell is the score of the highest value
    # there, and only cells whose value may reach the top K need a score at all.
    hm = np.ascontiguousarray(hm, np.float32)
    top_k, threshold, logits = card.decode.top_k, card.decode.score_threshold, card.output.hm == "logits"
    lowest = _lowest_value(np.nextafter(np.float32(threshold), np.float32(1)), logits)
    # What tops its neighbours in the maximum over the classes does so in its own class. These are peaks, if not all
    # of them, so the K-th best of all is no worse than the K-th best of these.
    over_classes = hm.max(axis=0)
    certain = over_classes[over_classes == _highest_around(over_classes[None])[0]]
    if len(certain) >= top_k:
        best_certain = np.partition(certain, -top_k)[-top_k:]
        lowest = max(lowest, _lowest_value(scores_of(card, best_certain).min(), logits))

    candidates = np.flatnonzero(hm >= lowest)
    scores = scores_of(card, hm.ravel()[candidates])
    highest = scores_of(card, _highest_around(hm).ravel()[candidates])
    peaks = (scores == highest) & (scores > threshold)
    candidates, scores = candidates[peaks], scores[peaks]
    order = _best(scores, top_k)
    return candidates[order], scores[order]


def detections_at(card: ModelCard, sample: Mapping[str, Float32], cells: Indices) -> Detections:
    """The detections that stand on cells of one heatmap, whether or not these are peaks, in the order given.

    Args:
        card: The contract of the model.
        sample: Heads (channels, h, w) by name.
        cells: (K,) flat indices into hm.
    """
    classes, rows, columns = np.unravel_index(cells, sample["hm"].shape)
    boxes = boxes_around(card, centres_at(card, sample, rows, columns), sample["wh"][:, rows, columns].T)
    return Detections(boxes, scores_of(card, sample["hm"].ravel()[cells]), classes.astype(np.int64))


def centres_at(card: ModelCard, sample: Mapping[str, Float32], rows: Indices, columns: Indices) -> Float32:
    """(K, 2) x, y of the centres that stand on these cells, in grid cells."""
    centres = np.stack([columns, rows], axis=1).astype(np.float32)
    if "reg" in sample:
        centres += sample["reg"][:, rows, columns].T
    elif card.output.box == "wh+reg":
        centres += np.float32(0.5)
    return centres


def boxes_around(card: ModelCard, centres: Float32, size: Float32) -> Float32:
    """(K, 4) x1, y1, x2, y2 in grid cells, of centres (K, 2) in grid cells and wh (K, 2 or 4) in the card's unit."""
    if card.output.box_unit == "input":
        size = size / np.float32(card.decode.stride)
    if card.output.box == "ltrb":
        return np.concatenate([centres - size[:, :2], centres + size[:, 2:]], axis=1)
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1)


def scores_of(card: ModelCard, hm: NDArray[Any]) -> NDArray[Any]:
    """Scores of heatmap values, of their shape and dtype."""
    return sigmoid(hm) if card.output.hm == "logits" else hm


def sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    """``1 / (1 + exp(-x))`` in the values' own dtype, each of the three steps rounded to it."""
    one = values.dtype.type(1)
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the score becomes 0
        # exp in float64: that of float32 differs between processors and need not be monotone.
        result: NDArray[Any] = one / (one + np.exp(-values.astype(np.float64)).astype(values.dtype))
    return result


def _highest_around(hm: Float32) -> Float32:
    """Return the maximum over each cell of (classes, h, w) and its neighbours in the same class."""
    highest = np.empty_like(hm)
    window = np.ones((3, 3), np.uint8)
    for plane, out in zip(hm, highest, strict=True):
        cv2.dilate(plane, window, dst=out)
    return highest


def _lowest_value(score: np.float32, logits: bool) -> np.float32:
    """Return a value just below all values of score `score` or higher (for probabilities, `score` itself)."""
    if not logits:
        return score
    # The three roundings of `sigmoid` move a score by at most 3 x 2^-24 of itself or, where scores are subnormal, by
    # less than the smallest of them.
    bound = float(score) * (1 - 2.0**-22) - 2.0**-149
    if bound <= 0:
        return np.float32(-np.inf)
    return np.float32(math.log(bound / (1 - bound)))


def _best(scores: Float32, top_k: int) -> Indices:
    """Return indices of the `top_k` highest scores, descending; of equal scores the lower index comes first."""
    last = np.partition(scores, -top_k)[-top_k] if len(scores) > top_k else -np.inf
    above = np.flatnonzero(scores > last)
    above = above[np.argsort(-scores[above], kind="stable")]
    level = np.flatnonzero(scores == last)[: top_k - len(above)]
    return np.concatenate([above, level])


def _check_shapes(card: ModelCard, heads: Heads) -> None:
    if set(heads) != set(card.output.heads):
        raise HarnessError(
            f"the model gives the heads {', '.join(heads)}; its card says {', '.join(card.output.heads)}",
            field="output.heads",
            remedy="correct the model card, or look at how the outputs were told apart",
        )
    batch = len(heads["hm"]) if heads["hm"].ndim == 4 else None
    misfit = find_misfit(head_specs(card, batch), heads, card.output.heads)
    if misfit is not None:
        whose = "the heads have" if misfit.label is None else f"head {misfit.label} has"
        hint = f": {misfit.hint}" if misfit.hint else ""
        raise HarnessError(
            f"{whose} {misfit.quality} {misfit.got}; expected {misfit.expected}{hint}",
            field="output",
            remedy="look at the order of the outputs and their layout, and at classes, box and stride of the card",
        )
