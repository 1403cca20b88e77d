"""One thing compared with what it should be: measured, allowed, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing compared.

    Attributes:
        what: Which, in words: head, sample, batch size.
        measured: The largest difference found; infinite where nothing could be compared.
        allowed: The largest difference that passes.
        count: Values compared.
        problem: What is wrong, for the engineer at the bench; None where it passes.
        worst_of: Name of a group of which this is the worst, see `worst`; empty where it is of no group.
        images: Images, where it speaks of the detections of all images.
        beyond: Those of them that stand out; the problem, if any, is that of the first.
        close: Close calls in it, which may come out either way.
    """

    what: str
    measured: float
    allowed: float
    count: int
    problem: str | None = None
    worst_of: str = ""
    images: int = 0
    beyond: int = 0
    close: int = 0

    def __str__(self) -> str:
        problem = self.problem
        if problem is not None and self.images:
            problem = f"{self.beyond} of {self.images} images stand out; {problem}"
        if not self.count:
            return f"{self.what}: {problem or 'nothing was compared'}"
        text = f"{self.what}: measured {self.measured:.3g}, allowed {self.allowed:.3g}, {self.count} values"
        return text if problem is None else f"{text}: {problem}"

    @property
    def share(self) -> float:
        """Measured / allowed; measured where nothing is allowed."""
        return self.measured / self.allowed if self.allowed else self.measured


def worst(comparisons: Iterable[Comparison]) -> Comparison:
    """Return the first that deviates, or else the one that comes closest to its limit, the first of equal ones."""
    found: Comparison | None = None
    for one in comparisons:
        if found is None or (found.problem is None and (one.problem is not None or one.share > found.share)):
            found = one
    assert found is not None
    return found


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


def labelled(label: str, part: str, sample: int, samples: int) -> str:
    """Name the part that is compared; the sample only where there are several."""
    return f"{label}, {part}" + (f", sample {sample}" if samples > 1 else "")
