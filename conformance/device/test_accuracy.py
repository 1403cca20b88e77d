"""AP of a device equals the reference's on the same images in the same run, at every batch size that is claimed."""

import pytest

from conformance.plugin.bench import Bench
from conformance.plugin.recorder import Recorder
from harness.checks.bootstrap import CONFIDENCE, Difference
from harness.checks.comparison import Comparison
from harness.checks.evaluate import Metrics
from harness.checks.floor import FloorResult, check_floor
from harness.report.records import Accuracy, Interval

pytestmark = pytest.mark.accuracy


def test_ap_equals_reference(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    with recorder.outputs_of("accuracy"):
        results, timing = bench.detections(device_name, batch_size)
        metrics = bench.evaluate(results)
        floor = check_floor(bench.card, metrics.AP, metrics.images)
        is_reference = bench.is_reference(device_name, batch_size)
        difference = None if is_reference else bench.difference(results)
        readings = bench.other_readings(device_name, batch_size)
        recorder.accuracy(accuracy(bench, batch_size, metrics, difference, floor, readings))
        timed = bench.device(device_name).card.reason_against("perf") is None
        if timing is not None and timed and not bench.config.workers:
            recorder.end_to_end(timing)
        if is_reference and "not applicable" in floor.text:
            recorder.not_applicable("accuracy", "this run is the reference: its AP is measured, not compared")
            return
        loss, allowed = bench.reference_metrics.AP - metrics.AP, bench.tolerance.ap_loss_allowed
        lost = None if loss <= allowed else f"AP {metrics.AP:.4f}, the reference reads {bench.reference_metrics.AP:.4f}"
        # Where the heads are not held to a tolerance, AP alone decides, and a few images cannot.
        enough = difference is None or bench.tolerance.derivable or difference.decides(allowed)
        if floor.reached and difference is not None and not enough:
            comparison = Comparison("AP", loss, allowed, metrics.images)
            recorder.undecided("accuracy", comparison, difference.describe(allowed))
        missed = None if floor.reached else floor.text
        recorder.stage("accuracy", [Comparison("AP", loss, allowed, metrics.images, lost or missed)])


def accuracy(
    bench: Bench,
    batch_size: int,
    metrics: Metrics,
    difference: Difference | None,
    floor: FloorResult,
    readings: dict[str, float],
) -> Accuracy:
    """What the report says of an AP."""
    allowed = bench.tolerance.ap_loss_allowed
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
        reference_AP=bench.reference_metrics.AP,
        allowed_loss=allowed,
        floor=floor.text,
        rounded=metrics.rounded,
        loss_interval=interval,
        readings=readings,
    )
