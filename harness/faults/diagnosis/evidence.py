"""What a port gave, and how far from it a prediction lies, in units of what precision explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.faults.base import FaultStage
from harness.faults.diagnosis.predict import Chain, representable
from harness.faults.forms import Forms
from harness.faults.port import Arrays
from harness.faults.writing import Rows

CAP = 20.0
"""One value that is off counts at most so many times what it may be off by: single values decide nothing."""
HALF_OVER_SINGLE = 512.0
"""What float16 may differ by over what float32 may, by `tolerances.toml`."""
UNMATCHED = 0.05
"""Share of detections that may differ for close calls."""
LEVELS = 1.5
"""Grey levels that inputs may differ by."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a prediction is from what came.

    Attributes:
        by_part: Mean difference of each part (head, or the whole), each value in units of what it may differ by and
            counted at most `CAP`; infinite where shapes differ or only one side is finite.
        residual: Difference that 99 of 100 values do not exceed; for detections, the share without an equal.
        deviates: Whether any value differs by more than it may.
    """

    by_part: Mapping[str, float]
    residual: float
    deviates: bool = True

    @property
    def worst(self) -> float:
        """That of the part that is furthest off."""
        return max(self.by_part.values())

    @property
    def best(self) -> float:
        """That of the part that is closest."""
        return min(self.by_part.values())


class Evidence(Protocol):
    """What a port gave for some images."""

    @property
    def stages(self) -> tuple[FaultStage, ...]:
        """Where mistakes can have been made that show in it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of which one may be spoilt and another not."""

    def __len__(self) -> int:
        """Number of images."""

    def distance(self, chain: Chain, forms: Forms, index: int) -> Distance:
        """How far what a port of these forms would give is from what came."""

    def difference(self, chain: Chain, forms: Forms, index: int, part: str | None = None) -> NDArray[np.float64] | None:
        """The same value by value, in units of what each may differ by; None where that makes no sense.

        Of one part (head) alone where that is asked for and the evidence has such parts.
        """


def _largest(values: NDArray[Any]) -> float:
    """Largest finite magnitude."""
    largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
    return largest if math.isfinite(largest) else float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.minimum(values, CAP).mean()) if values.size else math.inf


def _part(got: NDArray[Any], predicted: NDArray[Any], allowed: float) -> tuple[float, float, bool]:
    """Distance and residual of one array, and whether it deviates."""
    if got.shape != predicted.shape:
        if got.size != predicted.size:
            return math.inf, math.inf, True
        got = got.reshape(predicted.shape)
    finite, expected = np.isfinite(got), np.isfinite(predicted)
    if not finite.all() or not expected.all():
        kinds = (np.isnan(got).any(), np.isinf(got).any()) == (np.isnan(predicted).any(), np.isinf(predicted).any())
        if not kinds:
            return math.inf, math.inf, True
        # Where one side alone is finite the values are as far off as can be, where neither is, they agree.
        apart = np.where(finite == expected, 0.0, CAP * allowed)
        both = finite & expected
        off = np.where(both, np.abs(np.where(both, got, 0.0) - np.where(both, predicted, 0.0)), apart).ravel()
    else:
        off = np.abs(got.astype(np.float64) - predicted).ravel()
    place = int(0.99 * (off.size - 1))
    return _mean(off / allowed), float(np.partition(off, place)[place]), bool(off.max() > allowed)


@dataclass(frozen=True)
class HeadsEvidence:
    """The heads that came back.

    Attributes:
        heads: Of each image, (1, channels, h, w) by name.
        allowed: By image and head, what they may differ by.
        stages: See `Evidence`.
        parts: See `Evidence`.
    """

    heads: Sequence[Arrays]
    allowed: Sequence[Mapping[str, float]]
    stages: tuple[FaultStage, ...] = ("heads", "numeric", "batch", "preprocess", "network")
    parts: tuple[str, ...] = ("hm", "wh")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.heads)

    def distance(self, chain: Chain, forms: Forms, index: int) -> Distance:
        """See `Evidence`."""
        got, predicted = self.heads[index], chain.heads_of(forms, index)
        if got.keys() != predicted.keys():
            return Distance({"heads": math.inf}, math.inf)
        scale = HALF_OVER_SINGLE if forms.number.half and representable(got) else 1.0
        parts = {n: _part(got[n], predicted[n], scale * self._limit(chain, n, predicted[n], index)) for n in got}
        by_part = {name: part[0] for name, part in parts.items()}
        residual = max(part[1] for part in parts.values())
        return Distance(by_part, residual, any(part[2] for part in parts.values()))

    def difference(self, chain: Chain, forms: Forms, index: int, part: str | None = None) -> NDArray[np.float64] | None:
        """See `Evidence`."""
        got, predicted = self.heads[index], chain.heads_of(forms, index)
        if part is not None:
            got = {part: got[part]}
        if any(got[name].shape != predicted[name].shape for name in got):
            return None
        parts = []
        for name, values in got.items():
            limit = self._limit(chain, name, predicted[name], index)
            parts.append((values.astype(np.float64) - predicted[name]).ravel() / limit)
        return np.nan_to_num(np.concatenate(parts), posinf=0.0, neginf=0.0)

    def _limit(self, chain: Chain, name: str, predicted: NDArray[Any], index: int) -> float:
        """What is allowed, more where the mistake makes the head larger than a right one is, on both sides."""
        right, got = chain.largest(name, index), _largest(self.heads[index][name])
        return self.allowed[index][name] * max(1.0, min(got, _largest(predicted)) / right)


@dataclass(frozen=True)
class InputEvidence:
    """The network inputs that were fed.

    Attributes:
        inputs: Of each image, in the card's layout.
        stages: See `Evidence`.
        parts: See `Evidence`.
    """

    inputs: Sequence[NDArray[Any]]
    stages: tuple[FaultStage, ...] = ("preprocess",)
    parts: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.inputs)

    def distance(self, chain: Chain, forms: Forms, index: int) -> Distance:
        """See `Evidence`."""
        off = self.difference(chain, forms, index)
        assert off is not None
        off = np.abs(off)
        return Distance({"input": _mean(off)}, LEVELS * float(np.quantile(off, 0.99)), bool(off.max() > 1))

    def difference(self, chain: Chain, forms: Forms, index: int, part: str | None = None) -> NDArray[np.float64] | None:
        """See `Evidence`."""
        spec = chain.card.input
        level = np.array([LEVELS * spec.scale / std for std in spec.std])
        level = level.reshape((3, 1, 1) if spec.layout == "NCHW" else 3)
        predicted = chain.input_of(forms, index)[0]
        off: NDArray[np.float64] = (self.inputs[index].astype(np.float64) - predicted) / level
        return np.nan_to_num(off.ravel(), nan=CAP, posinf=CAP, neginf=CAP)


@dataclass(frozen=True)
class RowsEvidence:
    """The rows of the results file.

    Attributes:
        rows: Of each image.
        margins: By image, what scores and (in image pixels) boxes may differ by.
        stages: See `Evidence`.
        parts: See `Evidence`.
    """

    rows: Sequence[Rows]
    margins: Sequence[tuple[float, float]]
    stages: tuple[FaultStage, ...] = ("decode", "results", "heads", "numeric", "batch", "preprocess", "network")
    parts: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def distance(self, chain: Chain, forms: Forms, index: int) -> Distance:
        """See `Evidence`."""
        predicted = chain.rows_of(forms, index)
        if predicted is None:
            return Distance({"rows": math.inf}, math.inf)
        share = _unmatched_share(table_of(self.rows[index]), table_of(predicted), self.margins[index])
        return Distance({"rows": share / UNMATCHED}, share, share > 0)

    def difference(self, chain: Chain, forms: Forms, index: int, part: str | None = None) -> NDArray[np.float64] | None:
        """See `Evidence`."""
        del chain, forms, index, part
        return None


def table_of(rows: Rows) -> NDArray[np.float64]:
    """(n, 6): category, score, and the four numbers of the box."""
    return np.array([[r["category_id"], r["score"], *r["bbox"]] for r in rows], np.float64).reshape(-1, 6)


def _unmatched_share(a: NDArray[np.float64], b: NDArray[np.float64], margin: tuple[float, float]) -> float:
    """Share of the rows on both sides without an equal on the other, and of a difference in their number."""
    if not len(a) and not len(b):
        return 0.0
    if not len(a) or not len(b):
        return 1.0
    near = (a[:, None, 0] == b[None, :, 0]) & (np.abs(a[:, None, 1] - b[None, :, 1]) <= margin[0])
    size = np.abs(b[:, 2:]).max(axis=1)
    # Text has so many digits: a relative margin for what a mistake has made large.
    limit = margin[1] * np.maximum(1.0, size / 1000)
    near &= np.abs(a[:, None, 2:] - b[None, :, 2:]).max(axis=2) <= limit[None]
    ours, theirs = ~near.any(axis=1), ~near.any(axis=0)
    ends = a[:, 1].min(), b[:, 1].min()
    last = max(ends) + 2 * margin[0]
    # Which of those that tie for the last place come in is a close call, if most do not tie.
    if len(a) == len(b) and abs(ends[0] - ends[1]) <= 4 * margin[0] and (a[:, 1] > last).mean() >= 0.5:
        ours, theirs = ours & (a[:, 1] > last), theirs & (b[:, 1] > last)
    return (int(ours.sum()) + int(theirs.sum()) + abs(len(a) - len(b))) / (len(a) + len(b))
