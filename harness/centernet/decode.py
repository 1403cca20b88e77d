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

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
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
    return [
        _decode_sample(
            card, sample, {name: np.ascontiguousarray(head[sample], np.float32) for name, head in heads.items()}
        )
        for sample in range(len(heads["hm"]))
    ]


def to_image_space(card: ModelCard, detections: Detections, placement: Placement) -> Detections:
    """Convert boxes of detections to pixels of the image, neither clipped nor rounded.

    Args:
        card: The contract of the model, for the stride of the grid.
        detections: Detections from `decode`.
        placement: Placement of the image from `preprocess`.
    """
    corners = detections.boxes.reshape(-1, 2).astype(np.float64) * card.decode.stride
    corners = corners @ placement.inverse[:, :2].T + placement.inverse[:, 2]
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
        lowest = max(lowest, _lowest_value(_scores(best_certain, logits).min(), logits))

    candidates = np.flatnonzero(hm >= lowest)
    scores = _scores(hm.ravel()[candidates], logits)
    peaks = (scores == _scores(_highest_around(hm).ravel()[candidates], logits)) & (scores > threshold)
    candidates, scores = candidates[peaks], scores[peaks]
    order = _best(scores, top_k)
    return candidates[order], scores[order]


def possible_detections(card: ModelCard, heads: Heads, margin: float) -> Detections:
    """Find all possible detections of one sample if every score may differ by `margin`, best first.

    Args:
        card: The contract of the model.
        heads: Finite heads of one sample, N = 1.
        margin: Largest difference of a score.
    """
    named = {name: np.ascontiguousarray(head[0], np.float32) for name, head in heads.items()}
    scores = _scores(named["hm"], card.output.hm == "logits")
    possible = (scores >= _highest_around(scores) - margin) & (scores > card.decode.score_threshold - margin)
    cells = np.flatnonzero(possible)
    found = scores.ravel()[cells]
    certain = np.sort(found[found >= _highest_around(scores).ravel()[cells]])
    if len(certain) >= card.decode.top_k:
        kept = found >= certain[-card.decode.top_k] - 2 * margin
        cells, found = cells[kept], found[kept]
    order = np.argsort(-found, kind="stable")
    classes, rows, columns = np.unravel_index(cells[order], scores.shape)
    return Detections(_boxes(card, named, rows, columns), found[order], classes.astype(np.int64))


def _decode_sample(card: ModelCard, sample: int, heads: dict[str, Float32]) -> Detections:
    for name, head in heads.items():
        # Cheaper than isfinite, and enough: NaN spreads through both.
        if not (np.isfinite(head.min()) and np.isfinite(head.max())):
            raise NonFiniteHeadError(name, sample, int((~np.isfinite(head)).sum()))
    peaks, scores = top_peaks(card, heads["hm"])
    classes, rows, columns = np.unravel_index(peaks, heads["hm"].shape)
    return Detections(_boxes(card, heads, rows, columns), scores, classes.astype(np.int64))


def _boxes(card: ModelCard, heads: dict[str, Float32], rows: Indices, columns: Indices) -> Float32:
    """Make boxes (K, 4) float32 x1, y1, x2, y2 in grid cells."""
    centres = np.stack([columns, rows], axis=1).astype(np.float32)
    if "reg" in heads:
        centres += heads["reg"][:, rows, columns].T
    elif card.output.box == "wh+reg":
        centres += np.float32(0.5)
    size = heads["wh"][:, rows, columns].T
    if card.output.box_unit == "input":
        size = size / np.float32(card.decode.stride)
    if card.output.box == "ltrb":
        return np.concatenate([centres - size[:, :2], centres + size[:, 2:]], axis=1)
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1)


def _highest_around(hm: Float32) -> Float32:
    """Return the maximum over each cell of (classes, h, w) and its neighbours in the same class."""
    highest = np.empty_like(hm)
    window = np.ones((3, 3), np.uint8)
    for plane, out in zip(hm, highest, strict=True):
        cv2.dilate(plane, window, dst=out)
    return highest


def _scores(values: Float32, logits: bool) -> Float32:
    if not logits:
        return values
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the score becomes 0
        # exp in float64: that of float32 differs between processors and need not be monotone.
        return np.float32(1) / (np.float32(1) + np.exp(-values.astype(np.float64)).astype(np.float32))


def _lowest_value(score: np.float32, logits: bool) -> np.float32:
    """Return a value just below all values of score `score` or higher (for probabilities, `score` itself)."""
    if not logits:
        return score
    # The three roundings of `_scores` move a score by at most 3 x 2^-24 of itself or, where scores are subnormal, by
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
    batch, _, height, width = heads["hm"].shape if heads["hm"].ndim == 4 else (0, 0, 0, 0)
    if not card.input.keep_res:
        height, width = card.grid
    for name, head in heads.items():
        channels = card.head_channels[name]
        if head.shape != (batch, channels, height, width):
            raise HarnessError(
                f"head {name} has shape {head.shape}; expected ({batch}, {channels}, {height}, {width})",
                field="output",
                remedy="look at the order of the outputs and their layout, and at classes, box and stride of the card",
            )
