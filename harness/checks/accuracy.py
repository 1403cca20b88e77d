"""AP of a device against the reference's on the same images, and against the floor that is published for the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.cards import AnyCard
from harness.cards.tolerances import Tolerance
from harness.checks.bootstrap import CONFIDENCE, Difference
from harness.checks.comparison import Comparison
from harness.checks.evaluate import Metrics
from harness.checks.outcome import StageResult, judge, not_applicable, undecided
from harness.checks.shown_faults import ENLARGEMENTS, ShownFaults
from harness.report.records import Accuracy, Interval

CHECK_CARD = "check the card, the categories and the annotations, or give more images"
BEYOND = 0.01
"""Of a score beyond 0 and 1: approximations of the sigmoid on chips end that close to them."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts that stand behind an AP.

    Attributes:
        faults: What known faults do to the AP of the reference.
        decides: Whether AP alone decides: the heads are held to no tolerance, or the reference is no other than the
            model that the device runs.
        problem: What is wrong with the detections themselves; None where nothing is.
    """

    faults: ShownFaults
    decides: bool
    problem: str | None = None


def impossible_scores(scores: Iterable[float]) -> str | None:
    """Say which scores are none; None where all lie in 0..1.

    Args:
        scores: Of all detections of a run.
    """
    values = np.fromiter(scores, np.float64)
    wrong = values[~((values >= -BEYOND) & (values <= 1 + BEYOND))]
    return f"{len(wrong)} scores do not lie in 0..1, such as {wrong[0]:.6g}" if len(wrong) else None


def check_accuracy(
    card: AnyCard,
    batch_size: int | None,
    metrics: Metrics,
    reference_ap: float,
    difference: Difference | None,
    tolerance: Tolerance,
    readings: Mapping[str, float],
    evidence: Evidence,
) -> StageResult:
    """Hold an AP to the reference's and to the floor.

    Where nothing but AP decides, it must be one that shows faults, and of enough images.

    Args:
        card: The contract of the model, with the figures published for it.
        batch_size: Of the run.
        metrics: Of the device's detections.
        reference_ap: AP of the reference on the same images.
        difference: Between both, image by image; None where the run is the reference.
        tolerance: That of the run's precision.
        readings: AP by other readings of what is not known about the device.
        evidence: What stands behind the AP.
    """
    floor, allowed = check_floor(card, metrics.AP, metrics.images), tolerance.ap_loss_allowed
    record = _record(batch_size, metrics, reference_ap, difference, allowed, floor, readings)
    compared = Comparison("AP", reference_ap - metrics.AP, allowed, metrics.images)
    unseen = evidence.faults.describe_unseen(allowed)
    if evidence.problem is None and difference is None and not floor.applies:
        reason = "; ".join(filter(None, ["this run is the reference: its AP is measured, not compared", unseen]))
        if unseen is not None and evidence.decides:
            result = undecided("accuracy", batch_size, compared, f"{reason}; {CHECK_CARD}")
        else:
            result = not_applicable("accuracy", batch_size, reason)
        return replace(result, accuracy=record)
    lost = None
    if not compared.measured <= allowed:
        lost = f"AP {metrics.AP:.4f}, the reference reads {reference_ap:.4f}"
    compared = replace(compared, problem=evidence.problem or lost or (None if floor.reached else floor.text))
    result = _judge(batch_size, compared, difference, tolerance, evidence, beyond_doubt=not floor.reached)
    return replace(_remarked(result, evidence, allowed), accuracy=record)


def _judge(
    batch_size: int | None,
    compared: Comparison,
    difference: Difference | None,
    tolerance: Tolerance,
    evidence: Evidence,
    *,
    beyond_doubt: bool,
) -> StageResult:
    """Judge a loss; where nothing but AP decides, only if it can show faults and the images are enough.

    Args:
        batch_size: Of the run.
        compared: The loss, and what is wrong.
        difference: Of both sides, image by image.
        tolerance: That of the run's precision.
        evidence: What stands behind the AP.
        beyond_doubt: Whether the number of images does not matter for what is wrong.
    """
    blind = evidence.faults.describe_unseen(compared.allowed) if evidence.decides else None
    beyond_doubt = beyond_doubt or evidence.problem is not None or tolerance.derivable or difference is None
    if difference is not None and not beyond_doubt and not difference.decides(compared.allowed):
        reason = "; ".join(filter(None, [difference.describe(compared.allowed), blind]))
        return undecided("accuracy", batch_size, replace(compared, problem=None), reason)
    if compared.problem is None and blind is not None:
        return undecided("accuracy", batch_size, compared, f"{blind}; {CHECK_CARD}")
    return judge("accuracy", batch_size, [compared])


def _remarked(result: StageResult, evidence: Evidence, allowed: float) -> StageResult:
    """The result with a remark on what the AP shows, where the stage passed."""
    if result.stage.outcome != "passed":
        return result
    remark = evidence.faults.describe_unseen(allowed)
    if evidence.decides:
        least = evidence.faults.least_enlargement(allowed)
        shown = f"from {least} % on" if least is not None else f"not by up to {ENLARGEMENTS[-1]} %"
        remark = f"AP shows boxes that are too large {shown}"
    return result if remark is None else replace(result, stage=result.stage.model_copy(update={"detail": remark}))


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


def check_floor(card: AnyCard, ap: float, images: int) -> FloorResult:
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
