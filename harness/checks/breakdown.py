"""Breakdown of an AP: by class, by object size and along the recall, beside the reference's on the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from harness.checks.evaluate import Curves, Metrics
from harness.checks.outcome import StageResult
from harness.data.dataset import Instances
from harness.report.records import Breakdown, ClassAP, Curve


def with_breakdown(result: StageResult, instances: Instances, metrics: Metrics, reference: Metrics) -> StageResult:
    """Return the result of a stage with the breakdown of the AP that it measured.

    Args:
        result: Of `harness.checks.accuracy.check_accuracy`.
        instances: The truth.
        metrics: Of the device's detections.
        reference: Of the reference's detections in the same images.
    """
    if result.accuracy is None:
        return result
    found = break_down(instances, metrics, reference)
    return replace(result, accuracy=result.accuracy.model_copy(update={"breakdown": found}))


def break_down(instances: Instances, metrics: Metrics, reference: Metrics) -> Breakdown:
    """Set the parts of an AP beside the reference's, as `with_breakdown` takes them."""
    names = {category.id: category.name for category in instances.categories}
    objects = Counter(one.category_id for one in instances.annotations if not one.iscrowd)
    classes = [
        ClassAP(
            name=names[category],
            objects=objects[category],
            AP=_rounded(ap),
            reference_AP=_rounded(reference.curves.by_category[category]),
        )
        for category, ap in metrics.curves.by_category.items()
    ]
    sizes = (reference.APs, reference.APm, reference.APl)
    small, medium, large = (None if ap is None else _rounded(ap) for ap in sizes)
    return Breakdown(
        classes=tuple(sorted(classes, key=lambda one: one.AP - one.reference_AP)),
        reference_sizes=(small, medium, large),
        curve=_curve(metrics.curves),
        reference_curve=_curve(reference.curves),
    )


def _curve(curves: Curves) -> Curve:
    return Curve(at_50=_levels(curves.at_50), mean=_levels(curves.mean))


def _levels(precision: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(min(max(value, 0.0), 1.0), 3) for value in precision)


def _rounded(ap: float) -> float:
    return round(min(max(ap, 0.0), 1.0), 4)
