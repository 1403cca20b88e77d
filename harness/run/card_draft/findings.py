"""Findings about a model: each field of its card, how it was found, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sure = Literal["certain", "likely", "guess", "not told apart", "not found"]
"""certain: the file states it, or nothing else is possible. likely: the values say so. guess: what most CenterNets
have. not told apart: the best on the images, by less than chance may do. not found: look at the source of the model."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A field of the card.

    Attributes:
        field: Such as "input.layout"; "port" for what no field can say.
        value: As the terminal shows it.
        how: How it was found.
        sure: How sure that is.
    """

    field: str
    value: str
    how: str
    sure: Sure

    @property
    def comment(self) -> str | None:
        """Comment that the draft has above the field; None where there is nothing to look at."""
        return None if self.sure == "certain" else f"{self.sure}: {self.how}"
