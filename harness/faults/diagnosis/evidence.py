"""Evidence: output of a port, and the distance of a prediction from it in units of what precision explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.cards.tolerances import load_tolerance
from harness.checks.detections import table_of_rows, unmatched_share
from harness.checks.inputs import GREY_LEVELS, grey_levels
from harness.checks.margins import Margins
from harness.faults.diagnosis.predict import Chain, representable
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.fault import FaultStage
from harness.faults.port_spec import PortSpec
from harness.faults.stages.numeric import Arrays
from harness.faults.stages.results import Rows

CAP = TABLE.distance.cap
LEAST = float(np.finfo(np.float32).tiny)
"""Of what a value may differ by: a divisor."""


def half_over_single() -> float:
    """Compute the ratio of what float16 may differ by to what float32 may, from the tolerance table."""
    return load_tolerance("fp16").allowed(1, 1.0) / load_tolerance("fp32").allowed(1, 1.0)


@dataclass(frozen=True, slots=True)
class Distance:
    """Distance of a prediction from the evidence.

    Attributes:
        by_part: Mean difference of each part (head, or the whole), each value in units of what it may differ by and
            counted at most `distance.cap` of ``search.toml``; infinite if shapes differ or one side alone is finite.
        residual: Difference that 99 of 100 values do not exceed; for detections, the share without an equal.
        deviates: Whether any value differs by more than it may.
    """

    by_part: Mapping[str, float]
    residual: float
    deviates: bool = True

    @property
    def worst(self) -> float:
        """Largest mean difference of a part."""
        return max(self.by_part.values())

    @property
    def best(self) -> float:
        """Smallest mean difference of a part."""
        return min(self.by_part.values())


class Evidence(Protocol):
    """Output of a port for some images."""

    @property
    def stages(self) -> tuple[FaultStage, ...]:
        """Stages whose faults can show in it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of which a fault may spoil one and not another."""

    def __len__(self) -> int:
        """Number of images."""

    def distance(self, chain: Chain, port: PortSpec, index: int) -> Distance:
        """Measure how far the prediction of a port is from the evidence, for one image."""

    def difference(
        self, chain: Chain, port: PortSpec, index: int, part: str | None = None
    ) -> NDArray[np.float64] | None:
        """Subtract a prediction from the evidence, value by value, in units of what each may differ by.

        Args:
            chain: Predicts.
            port: The port to predict.
            index: Of the image.
            part: The only part (head) to compare; None for all.

        Returns:
            (n,) differences; None if this evidence has no value-by-value difference.
        """


def _largest(values: NDArray[Any]) -> float:
    """Find the largest finite magnitude."""
    largest = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
    return largest if math.isfinite(largest) else float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.minimum(values, CAP).mean()) if values.size else math.inf


def _part(got: NDArray[Any], predicted: NDArray[Any], allowed: float) -> tuple[float, float, bool]:
    """Measure distance and residual of one array, and whether it deviates."""
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
    """Heads that a port gave.

    Attributes:
        heads: Of each image, (1, channels, h, w) by name.
        allowed: By image and head, what values may differ by.
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

    def distance(self, chain: Chain, port: PortSpec, index: int) -> Distance:
        """Implement `Evidence`."""
        got, predicted = self.heads[index], chain.heads_of(port, index)
        if got.keys() != predicted.keys():
            return Distance({"heads": math.inf}, math.inf)
        scale = half_over_single() if port.numeric.half and representable(got) else 1.0
        parts = {n: _part(got[n], predicted[n], scale * self._limit(chain, n, predicted[n], index)) for n in got}
        by_part = {name: part[0] for name, part in parts.items()}
        residual = max(part[1] for part in parts.values())
        return Distance(by_part, residual, any(part[2] for part in parts.values()))

    def difference(
        self, chain: Chain, port: PortSpec, index: int, part: str | None = None
    ) -> NDArray[np.float64] | None:
        """Implement `Evidence`."""
        got, predicted = self.heads[index], chain.heads_of(port, index)
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
        """Scale what is allowed where both evidence and prediction are larger than a right head.

        Of a head that is zero throughout nothing is allowed, and nothing is its size: values that differ at all are
        then as far off as can be.
        """
        right, got = chain.largest(name, index), _largest(self.heads[index][name])
        larger = min(got, _largest(predicted)) / right if right > 0 else 1.0
        return max(self.allowed[index][name] * max(1.0, larger), LEAST)


@dataclass(frozen=True)
class InputEvidence:
    """Network inputs that a port fed.

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

    def distance(self, chain: Chain, port: PortSpec, index: int) -> Distance:
        """Implement `Evidence`."""
        off = self.difference(chain, port, index)
        assert off is not None
        off = np.abs(off)
        return Distance({"input": _mean(off)}, GREY_LEVELS * float(np.quantile(off, 0.99)), bool(off.max() > 1))

    def difference(
        self, chain: Chain, port: PortSpec, index: int, part: str | None = None
    ) -> NDArray[np.float64] | None:
        """Implement `Evidence`."""
        off = grey_levels(chain.card, self.inputs[index], chain.input_of(port, index)[0]) / GREY_LEVELS
        return np.nan_to_num(off.ravel(), nan=CAP, posinf=CAP, neginf=CAP)


@dataclass(frozen=True)
class RowsEvidence:
    """Rows of a port's results file.

    Attributes:
        rows: Of each image.
        margins: By image, those of the rows of a right port.
        stages: See `Evidence`.
        parts: See `Evidence`.
    """

    rows: Sequence[Rows]
    margins: Sequence[Margins]
    stages: tuple[FaultStage, ...] = ("decode", "results", "heads", "numeric", "batch", "preprocess", "network")
    parts: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def distance(self, chain: Chain, port: PortSpec, index: int) -> Distance:
        """Implement `Evidence`."""
        predicted = chain.rows_of(port, index)
        if predicted is None:
            return Distance({"rows": math.inf}, math.inf)
        margins = _amplified(self.margins[index])
        share = unmatched_share(table_of_rows(self.rows[index]), table_of_rows(predicted), margins)
        return Distance({"rows": share / TABLE.distance.unmatched}, share, share > 0)

    def difference(
        self, chain: Chain, port: PortSpec, index: int, part: str | None = None
    ) -> NDArray[np.float64] | None:
        """Implement `Evidence`."""
        del chain, port, index, part
        return None


def _amplified(margins: Margins) -> Margins:
    """Widen the margins of a right port to what those of one that makes a mistake can come to.

    Twice: a mistake can carry a difference of the heads further, as wh in another unit or scores without sigmoid do.
    """
    return replace(margins, score=2 * margins.score, corner=2 * margins.corner)
