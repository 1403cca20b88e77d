"""The heads of a device, and the decisions that follow from them, equal the reference's."""

import pytest

from conformance.plugin.bench import Bench
from conformance.plugin.diagnosis import diagnose
from conformance.plugin.recorder import Recorder
from harness.checks.detections import compare_decisions
from harness.checks.heads import compare_heads

pytestmark = pytest.mark.accuracy


def test_device_heads_equal_reference(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    with recorder.diagnosed(lambda: diagnose(bench, device_name, batch_size)), recorder.outputs_of("heads"):
        comparisons = [
            comparison
            for (label, device, reference), allowed in bench.limited_pairs(device_name, batch_size)
            for comparison in compare_heads(device, reference, allowed, label)
        ]
        if bench.tolerance.derivable:
            recorder.stage("heads", comparisons)
        else:
            losses = bench.artifact(device_name, batch_size).findings.losses
            recorder.measured_only("heads", comparisons, bench.tolerance.factor_reason, losses)


def test_sample_in_a_batch_equals_the_sample_alone(
    bench: Bench, recorder: Recorder, device_name: str, batch_size: int
) -> None:
    if batch_size == 1:
        recorder.not_applicable("batch", "a batch of one is the sample alone")
        return
    if bench.artifact(device_name, batch_size).batch_size is not None:
        recorder.not_applicable("batch", "the model takes no other batch size; its samples are compared as heads")
        return
    with recorder.outputs_of("batch"):
        together, alone = bench.heads(device_name, batch_size), bench.heads(device_name, 1)
        limits = bench.allowed if bench.tolerance.derivable else bench.moved(device_name)
        comparisons = [
            comparison
            for label, device, single, allowed in zip(
                bench.sample_labels(batch_size), together, alone, limits, strict=True
            )
            for comparison in compare_heads(device, single, allowed, label)
        ]
        recorder.stage("batch", comparisons)


def test_device_decides_as_the_reference(bench: Bench, recorder: Recorder, device_name: str, batch_size: int) -> None:
    if not bench.tolerance.derivable:
        recorder.not_applicable("detections", "no tolerance of the heads to derive theirs from: the verdict is by AP")
        return
    with recorder.outputs_of("detections"):
        comparisons = [
            comparison
            for (label, device, reference), allowed in bench.limited_pairs(device_name, batch_size)
            for comparison in compare_decisions(bench.card, device, reference, allowed, label)
        ]
        recorder.stage("detections", comparisons)
