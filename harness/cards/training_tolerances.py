"""Allowed differences of a right training, one table: ``training_tolerances.toml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from harness.cards.schema import FiniteRecord, parse, read_toml

TABLE = Path(__file__).with_suffix(".toml")


class _Reasoned(FiniteRecord):
    """Numbers with the reason for them."""

    reason: str
    source: str


class Share(_Reasoned):
    """Of the largest magnitude of a tensor."""

    share: float = Field(gt=0, lt=1)


class Pooled(_Reasoned):
    """Of pooled features."""

    neighbours: float = Field(gt=0)
    """Difference of neighbouring features over the largest, at most."""


class Decisions(_Reasoned):
    """Of thresholds, overlaps and ranks."""

    margin: float = Field(gt=0, lt=1)
    """Distance from its limit within which a decision is not held against a device."""
    differing: float = Field(ge=0, lt=1)
    """Share of boxes whose decision may differ in a step that is not fed."""
    differing_reason: str


class Relative(_Reasoned):
    """Of the reference's value."""

    relative: float = Field(gt=0, lt=1)


class Layers(_Reasoned):
    """Of what layers give below float32."""

    measured: float = Field(ge=1)
    """Multiple of the error that is measured on the reference in the same precision."""


class HalfPrecision(_Reasoned):
    """Of a whole step below float32."""

    cosine: float = Field(gt=0, le=1)
    """Least cosine of the gradients of a group of parameters."""
    total: float = Field(gt=0, lt=1)
    """Of the sum of the losses, relative."""


class Processes(_Reasoned):
    """Of several processes against one."""

    losses: float = Field(gt=0, lt=1)
    gradients: float = Field(gt=0, lt=1)


class TrainingTolerances(FiniteRecord):
    """The whole table."""

    exact: Share
    pooled: Pooled
    decisions: Decisions
    losses: Relative
    gradients: Relative
    parameters: Relative
    later_losses: Relative
    learning_rates: Relative
    layers: Layers
    bf16: HalfPrecision
    fp16: HalfPrecision
    processes: Processes

    def half(self, precision: str) -> HalfPrecision | None:
        """Return what a step of a precision below float32 may differ by; None for float32."""
        return {"bf16": self.bf16, "fp16": self.fp16}.get(precision)


@cache
def load_training_tolerances() -> TrainingTolerances:
    """Load the table that ships with the suite."""
    return parse(TrainingTolerances, read_toml(TABLE), TABLE)
