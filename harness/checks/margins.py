"""The one rule for how far detections may differ where heads may: scores, their order, and the corners of boxes.

Let ``a[head]`` be the largest absolute difference that a head is allowed, and the stride and unit those of the card.

One score
    ``slope x a[hm]``. The slope is 1 where the network gives probabilities. For logits it is the largest slope of
    the sigmoid, 1/4, which is attained at a score of 0.5.
The order of two scores
    Twice that: one may rise while the other falls. It decides which peaks come first, where rounding can also make
    equal what was not. A score against the card's constant threshold hangs on the difference of one score alone.
The order of two values of the heatmap
    ``2 x a[hm]``, and nothing for rounding: no sigmoid falls where its argument rises, so that a cell whose value is
    no lower than its neighbours' is a peak of every port.
A corner of a box
    ``stride x a[reg] + unit x a[wh] / 2`` for ``wh+reg``, since a corner lies half a side from the centre, and
    ``stride x a[reg] + unit x a[wh]`` for ``ltrb``, where each side has a distance of its own, in pixels of the
    network input. `unit` is 1 where wh is given in pixels of the input, else the stride. The geometries scale each
    axis and do not rotate, so that a pixel of the input is at most ``1 / min(sx, sy)`` pixels of the image.

Each of these is attained, so that no smaller margin spares every right port and any larger one spares wrong ones.
Corners are compared, never x, y, width and height: a width moves by as much as two corners, so that one limit for all
four numbers would be too wide for x or too narrow for the width. What float32 and text add stands in the constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from harness.cards import ModelCard
from harness.types import Placement

SCORE_ROUNDED = 2.0**-21
"""Of a score: the sigmoid of `decode` has three roundings to float32, each 2^-24 of a score of at most 1, on both
sides; doubled to stay clear of the comparison's own."""
CORNER_ROUNDED = 1e-3
"""Pixels of the network input: float32 on the grid, some roundings of 2^-24 at up to some thousands of pixels."""
SCORE_ALLOWED = 1e-5
"""Of a score in a results file: a sigmoid of any make in float32, written with five decimals or more."""
BOX_ALLOWED = 0.0125
"""Pixels of the image, of a corner in a results file: x and width each written with two decimals, 0.005 apiece, and
float32 at coordinates of some thousands."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Largest differences of right detections.

    Attributes:
        value: Of one value of the heatmap, before any sigmoid.
        score: Of one score.
        corner: Of x or y of one corner, in pixels of the network input (`of_heads`) or of the image (`of_rows`).
    """

    value: float
    score: float
    corner: float

    @property
    def order(self) -> float:
        """Difference of two scores up to which either may be the higher one."""
        return 2 * self.score

    @classmethod
    def of_heads(cls, card: ModelCard, allowed: Mapping[str, float]) -> Self:
        """Margins of detections that `decode` reads from two sets of heads.

        Args:
            card: The contract of the model.
            allowed: Largest absolute difference by head.
        """
        score, corner = _propagated(card, allowed)
        return cls(allowed.get("hm", 0.0), score + SCORE_ROUNDED, corner + CORNER_ROUNDED)

    @classmethod
    def of_rows(cls, card: ModelCard, allowed: Mapping[str, float], placement: Placement) -> Self:
        """Margins of the rows of a results file against detections that `decode` reads from heads.

        Args:
            card: The contract of the model.
            allowed: Largest absolute difference by head; empty where the heads are those that the rows were read from.
            placement: Where the image lies in the network input.
        """
        score, corner = _propagated(card, allowed)
        factor = float(min(abs(placement.forward[0, 0]), abs(placement.forward[1, 1])))
        return cls(allowed.get("hm", 0.0), score + SCORE_ALLOWED, corner / factor + BOX_ALLOWED)


def _propagated(card: ModelCard, allowed: Mapping[str, float]) -> tuple[float, float]:
    """Differences of a score and, in pixels of the network input, of a corner, that follow from those of heads."""
    slope = 0.25 if card.output.hm == "logits" else 1.0
    unit = 1.0 if card.output.box_unit == "input" else float(card.decode.stride)
    share = 0.5 if card.output.box == "wh+reg" else 1.0
    reg, wh = (allowed.get(head, 0.0) for head in ("reg", "wh"))
    return slope * allowed.get("hm", 0.0), card.decode.stride * reg + unit * share * wh
