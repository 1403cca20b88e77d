"""AP of a device equals the reference's on the same images in the same run, at every batch size that is claimed."""

import pytest

from conformance.plugin.bench import Bench
from conformance.plugin.recorder import Recorder
from harness.compare import Comparison
from harness.floor import check_floor
from harness.report.records import Accuracy

pytestmark = pytest.mark.accuracy


def test_ap_equals_reference(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    with recorder.outputs_of("accuracy"):
        results, timing = bench.detections(device_name, batch_size)
        metrics, reference = bench.evaluate(results), bench.reference_metrics
        allowed = bench.tolerance.ap_loss_allowed
        floor = check_floor(bench.card, metrics.AP, metrics.images)
        recorder.accuracy(
            Accuracy(
                batch_size=batch_size,
                AP=metrics.AP,
                AP50=metrics.AP50,
                AP75=metrics.AP75,
                APs=metrics.APs,
                APm=metrics.APm,
                APl=metrics.APl,
                images=metrics.images,
                reference_AP=reference.AP,
                allowed_loss=allowed,
                floor=floor.text,
                rounded=metrics.rounded,
                readings=bench.other_readings(device_name, batch_size),
            )
        )
        timed = bench.device(device_name).card.reason_against("perf") is None
        if timing is not None and timed and not bench.config.workers:
            recorder.end_to_end(timing)
        if bench.is_reference(device_name, batch_size) and "not applicable" in floor.text:
            recorder.not_applicable("accuracy", "this run is the reference: its AP is measured, not compared")
            return
        loss = reference.AP - metrics.AP
        lost = None if loss <= allowed else f"AP {metrics.AP:.4f}, the reference reads {reference.AP:.4f}"
        missed = None if floor.reached else floor.text
        recorder.stage("accuracy", [Comparison("AP", loss, allowed, metrics.images, lost or missed)])
