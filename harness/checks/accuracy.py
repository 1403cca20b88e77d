"""AP of a device against the reference's on the same images, and against the floor that is published for the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.cards import ModelCard
from harness.cards.tolerances import Tolerance
from harness.checks.bootstrap import CONFIDENCE, Difference
from harness.checks.comparison import Comparison
from harness.checks.evaluate import Metrics
from harness.checks.outcome import StageResult, judge, not_applicable, undecided
from harness.report.records import Accuracy, Interval


def check_accuracy(
    card: ModelCard,
    batch_size: int | None,
    metrics: Metrics,
    reference_ap: float,
    difference: Difference | None,
    tolerance: Tolerance,
    readings: Mapping[str, float],
) -> StageResult:
    """Hold an AP to the reference's and to the floor.

    Args:
        card: The contract of the model, with the figures published for it.
        batch_size: Of the run.
        metrics: Of the device's detections.
        reference_ap: AP of the reference on the same images.
        difference: Between both, image by image; None where the run is the reference.
        tolerance: That of the run's precision.
        readings: AP by other readings of what is not known about the device.
    """
    floor, allowed = check_floor(card, metrics.AP, metrics.images), tolerance.ap_loss_allowed
    record = _record(batch_size, metrics, reference_ap, difference, allowed, floor, readings)
    if difference is None and not floor.applies:
        reason = "this run is the reference: its AP is measured, not compared"
        return replace(not_applicable("accuracy", batch_size, reason), accuracy=record)
    loss = reference_ap - metrics.AP
    lost = None if loss <= allowed else f"AP {metrics.AP:.4f}, the reference reads {reference_ap:.4f}"
    # Where the heads are not held to a tolerance, AP alone decides, and a few images cannot.
    if floor.reached and difference is not None and not tolerance.derivable and not difference.decides(allowed):
        comparison = Comparison("AP", loss, allowed, metrics.images)
        result = undecided("accuracy", batch_size, comparison, difference.describe(allowed))
    else:
        problem = lost or (None if floor.reached else floor.text)
        result = judge("accuracy", batch_size, [Comparison("AP", loss, allowed, metrics.images, problem)])
    return replace(result, accuracy=record)


def _record(
    batch_size: int | None,
    metrics: Metrics,
    reference_ap: float,
    difference: Difference | None,
    allowed: float,
    floor: FloorResult,
    readings: Mapping[str, float],
) -> Accuracy:
    interval = None
    if difference is not None:
        interval = Interval(
            low=difference.low,
            high=difference.high,
            confidence=CONFIDENCE,
            decides=difference.decides(allowed),
            images_to_decide=difference.images_to_decide(allowed),
        )
    return Accuracy(
        batch_size=batch_size,
        AP=metrics.AP,
        AP50=metrics.AP50,
        AP75=metrics.AP75,
        APs=metrics.APs,
        APm=metrics.APm,
        APl=metrics.APl,
        images=metrics.images,
        reference_AP=reference_ap,
        allowed_loss=allowed,
        floor=floor.text,
        rounded=metrics.rounded,
        loss_interval=interval,
        readings=dict(readings),
    )


@dataclass(frozen=True, slots=True)
class FloorResult:
    """The outcome of the floor.

    Attributes:
        text: For the report.
        reached: False where the floor applies and was missed.
        applies: Whether the card has one, for this number of images.
    """

    text: str
    reached: bool
    applies: bool = True


def check_floor(card: ModelCard, ap: float, images: int) -> FloorResult:
    """Compare AP, rounded to a tenth of a point as published figures are, with the floor of the card.

    Args:
        card: With the figures published for it.
        ap: Measured, as a fraction.
        images: Number of images it was measured on.
    """
    floors = [published for published in card.published if published.floor]
    if not floors:
        return FloorResult("floor not applicable (no published AP on the card)", reached=True, applies=False)
    floor = floors[0]
    if images != floor.images:
        return FloorResult(f"floor not applicable ({images} images)", reached=True, applies=False)
    reached = round(100 * ap, 1) >= round(100 * floor.ap, 1)
    word = "reached" if reached else "missed"
    text = f"floor {100 * floor.ap:.1f} {word} with {100 * ap:.4f} ({floor.source})"
    others = [f"{100 * p.ap:.1f} ({p.resolution}: {p.source})" for p in card.published if not p.floor]
    return FloorResult("; no floor: ".join([text, *others]), reached)
