"""Is it the same? Heads and decisions of a device against the reference, one by one, sample by sample.

A head may differ from the reference's by

    allowed = factor x unit round-off x sqrt(accumulation length) x scale

with factor and round-off from ``tolerances.toml``. The scale is the largest magnitude of the head in a float64 run of
the same network, or, where the network amplifies rounding beyond that, the magnitude that explains float32's own error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.cards.schema import Record, parse, read_toml
from harness.decode import decode, top_peaks
from harness.errors import HarnessError
from harness.types import Heads

TABLE = Path(__file__).parent / "tolerances.toml"

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)


class Tolerance(Record):
    """What a correct port of one precision may differ by."""

    unit_roundoff: float | None = None
    """None where no tolerance of the heads can be derived: they are measured, and the verdict is by AP."""
    factor: float | None = None
    factor_reason: str
    ap_loss_allowed: float
    ap_reason: str
    source: str
    since: str

    @property
    def derivable(self) -> bool:
        """Whether the heads can be held to a tolerance."""
        return self.unit_roundoff is not None and self.factor is not None

    def allowed(self, accumulation_length: int, scale: float) -> float:
        """Largest absolute difference of a head; infinite where none can be derived."""
        if self.unit_roundoff is None or self.factor is None:
            return math.inf
        return self.factor * self.unit_roundoff * math.sqrt(accumulation_length) * scale


def load_tolerance(precision: str) -> Tolerance:
    """The tolerance of a precision.

    Raises:
        HarnessError: There is none for it.
    """
    table = read_toml(TABLE)
    if precision not in table:
        raise HarnessError(
            f"precision '{precision}' is not supported yet",
            field="--precision",
            remedy=f"use one of {', '.join(sorted(table))}",
        )
    return parse(Tolerance, table[precision], TABLE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing compared.

    Attributes:
        what: Which, in words: head, sample, batch size.
        measured: The largest difference found; infinite where nothing could be compared.
        allowed: The largest difference that passes.
        count: Values compared.
        problem: What is wrong, for the engineer at the bench; None where it passes.
    """

    what: str
    measured: float
    allowed: float
    count: int
    problem: str | None = None

    def __str__(self) -> str:
        if not self.count:
            return f"{self.what}: {self.problem or 'nothing was compared'}"
        text = f"{self.what}: measured {self.measured:.3g}, allowed {self.allowed:.3g}, {self.count} values"
        return text if self.problem is None else f"{text}: {self.problem}"


def head_scales(heads32: Heads, second: Heads, tolerance: Tolerance, length: int) -> dict[str, float]:
    """Scale of each head.

    Args:
        heads32: The reference in float32.
        second: The same network and input in float64; of an ONNX without weights, in another order of operations.
        tolerance: That of float32.
        length: Accumulation length.
    """
    assert tolerance.unit_roundoff is not None
    scales = {}
    exact = second.named()
    for name, head in heads32.named().items():
        own_error = float(np.abs(head - exact[name]).max())
        scales[name] = max(float(np.abs(exact[name]).max()), own_error / (tolerance.unit_roundoff * math.sqrt(length)))
    return scales


def compare_heads(device: Heads, reference: Heads, allowed: Mapping[str, float], label: str) -> list[Comparison]:
    """Every head of every sample, each on its own; NaN and infinity fail, and so does a comparison of nothing.

    Args:
        device: What the device gave.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison, such as the batch size.
    """
    theirs, golden = device.named(), reference.named()
    if theirs.keys() != golden.keys():
        missing = ", ".join(sorted(golden.keys() ^ theirs.keys()))
        return [Comparison(f"{label}, heads", math.inf, 0, 0, f"only one side has: {missing}")]
    found = []
    for name, expected in golden.items():
        got = theirs[name]
        if got.shape != expected.shape or not expected.size:
            problem = f"expected shape {expected.shape}, got {got.shape}" if expected.size else "nothing to compare"
            found.append(Comparison(f"{label}, head {name}", math.inf, allowed[name], 0, problem))
            continue
        for sample in range(len(expected)):
            what = _what(label, f"head {name}", sample, len(expected))
            found.append(compare_values(what, got[sample], expected[sample], allowed[name]))
    return found


def _what(label: str, part: str, sample: int, samples: int) -> str:
    return f"{label}, {part}" + (f", sample {sample}" if samples > 1 else "")


def compare_values(what: str, got: NDArray[np.floating], expected: NDArray[np.floating], allowed: float) -> Comparison:
    """Two arrays of one shape, (channels, h, w) for the message to name the place as it does."""
    for values, owner in ((got, ""), (expected, " on the side that it is compared with")):
        finite = np.isfinite(values)
        if not finite.all():
            bad = int((~finite).sum())
            place = tuple(int(i) for i in np.argwhere(~finite)[0])
            problem = f"{bad} of {got.size} values are NaN or infinite{owner}, the first at (channel, y, x) {place}"
            return Comparison(what, math.inf, allowed, got.size, problem)
    difference = np.abs(got.astype(np.float64) - expected)
    measured = float(difference.max())
    if measured <= allowed:
        return Comparison(what, measured, allowed, got.size)
    place = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    share = float((difference > allowed).mean())
    problem = (
        f"{share:.1%} of the values are beyond; worst at (channel, y, x) {place}: "
        f"expected {float(expected[place]):.6g}, got {float(got[place]):.6g}"
    )
    return Comparison(what, measured, allowed, got.size, problem)


def compare_decisions(
    card: ModelCard, device: Heads, reference: Heads, allowed: Mapping[str, float], label: str
) -> list[Comparison]:
    """The detections: which peaks are among the top K, and where their boxes lie.

    A peak binds if neither its place among the top K nor its standing above its neighbours hangs on a difference that
    the heatmap is allowed; every peak that binds on one side must be found on the other. Boxes are compared in pixels
    of the network input.

    Args:
        card: The contract of the model.
        device: Finite heads of the device.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison.
    """
    # The sigmoid's slope is at most 1/4; twice, for both of two scores may move.
    margin = 2 * allowed["hm"] * (0.25 if card.output.hm == "logits" else 1.0)
    unit = 1.0 if card.output.box_unit == "input" else float(card.decode.stride)
    box_allowed = unit * allowed["wh"] + card.decode.stride * allowed.get("reg", 0.0) + 1e-3
    found = []
    boxes = list(zip(decode(card, device), decode(card, reference), strict=True))
    for sample, (their_boxes, golden_boxes) in enumerate(boxes):
        what = _what(label, "detections", sample, len(boxes))
        theirs, their_binding = _peaks(card, device.hm[sample], margin)
        golden, golden_binding = _peaks(card, reference.hm[sample], margin)
        lost, extra = golden_binding - theirs.keys(), their_binding - golden.keys()
        common = [(theirs[cell], golden[cell]) for cell in theirs.keys() & golden.keys()]
        if not common:
            nothing = not theirs and not golden
            found.append(Comparison(what, 0.0 if nothing else math.inf, box_allowed, 0, _changed(lost, extra)))
            continue
        pairs = np.array(common)
        shift = np.abs(their_boxes.boxes[pairs[:, 0]] - golden_boxes.boxes[pairs[:, 1]]) * card.decode.stride
        measured = float(shift.max())
        problem = _changed(lost, extra)
        if problem is None and not measured <= box_allowed:
            problem = f"a box has moved by {measured:.3g} pixels of the network input"
        found.append(Comparison(what, measured, box_allowed, len(common), problem))
    return found


def _changed(lost: set[int], extra: set[int]) -> str | None:
    if not lost and not extra:
        return None
    return f"{len(lost)} detections of the reference are lost, {len(extra)} are new"


def _peaks(card: ModelCard, hm: NDArray[np.floating], margin: float) -> tuple[dict[int, int], set[int]]:
    """Rank of each of the top peaks by its flat cell, and those cells whose choice is not a close call.

    A peak's choice is none if it tops its neighbours by more than the margin and if, of all cells that are peaks within
    the margin, fewer than the top K come within the margin of its score or lie above.
    """
    cells, _ = top_peaks(card, hm)
    values = np.ascontiguousarray(hm, np.float32)
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the score becomes 0
        scores = 1 / (1 + np.exp(-values)) if card.output.hm == "logits" else values
    beside = np.stack([cv2.dilate(plane, NEIGHBOURS) for plane in scores])
    possible = np.sort(scores[(scores >= beside - margin) & (scores > card.decode.score_threshold - margin)])
    own = scores.ravel()[cells]
    rivals = len(possible) - np.searchsorted(possible, own - margin) - 1
    clear = (own - margin > beside.ravel()[cells]) & (own - margin > card.decode.score_threshold)
    binding = cells[clear & (rivals < card.decode.top_k)]
    return {int(cell): rank for rank, cell in enumerate(cells)}, set(binding.tolist())
