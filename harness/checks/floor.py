"""The absolute floor: a published AP holds on exactly the images it was published for."""

from __future__ import annotations

from dataclasses import dataclass

from harness.cards import ModelCard


@dataclass(frozen=True, slots=True)
class FloorResult:
    """How the floor came out.

    Attributes:
        text: For the report.
        reached: False where the floor applies and was missed.
    """

    text: str
    reached: bool


def check_floor(card: ModelCard, ap: float, images: int) -> FloorResult:
    """Compare AP, rounded to a tenth of a point as published figures are, with the floor of the card.

    Args:
        card: With the figures published for it.
        ap: Measured, as a fraction.
        images: Number of images it was measured on.
    """
    floors = [published for published in card.published if published.floor]
    if not floors:
        return FloorResult("floor not applicable (no published AP on the card)", reached=True)
    floor = floors[0]
    if images != floor.images:
        return FloorResult(f"floor not applicable ({images} images)", reached=True)
    reached = round(100 * ap, 1) >= round(100 * floor.ap, 1)
    word = "reached" if reached else "missed"
    text = f"floor {100 * floor.ap:.1f} {word} with {100 * ap:.4f} ({floor.source})"
    others = [f"{100 * p.ap:.1f} ({p.resolution}: {p.source})" for p in card.published if not p.floor]
    return FloorResult("; no floor: ".join([text, *others]), reached)
