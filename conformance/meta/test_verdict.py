"""Devices of a vendor, right and wrong, run through the suite: each gets the verdict that it deserves, and why."""

import re
from contextlib import closing
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from conformance.support.suite import CHECKS, Ended, Suite
from conformance.support.tiny import IMAGES, TinySetup
from harness.checks.evaluate import evaluate
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.faults import CATALOGUE
from harness.run.options import parse_options
from harness.run.pipeline import detect
from harness.run.session import Session
from harness.run.stages import heads
from harness.run.subject import load_subject

EVERY_STAGE = {"contract", "heads", "batch", "detections", "accuracy"}
ALONE = {"heads", "detections", "accuracy"}
IN_A_BATCH = {*ALONE, "batch"}

FAULTS = {
    "swapped": (ALONE, ALONE, r"head wh: measured \d\S*, allowed \d\S*, 512 values: .*expected \S+, got \S+"),
    "permuted": (set(), IN_A_BATCH, r"image 139, sample 0, head hm: measured \d"),
    "stale": (set(), IN_A_BATCH, r"sample 3, head hm: measured \d"),
    "nan": (ALONE, IN_A_BATCH, r"sample 3, head hm: .*1 of 20480 values are NaN.*\(channel, y, x\) \(7, 3, 5\)"),
    "transposed": (ALONE, IN_A_BATCH, r"head hm: expected shape \(4, 80, 16, 16\), got \(4, 16, 16, 80\): .*NHWC"),
    "fewer": (ALONE, IN_A_BATCH, r"expected outputs named hm, wh, reg, got hm, wh$"),
    "slight": (set(), {"heads", "batch"}, r"sample 2, head reg: measured 0.002, allowed 6\S+,.*\(1, 9, 4\)"),
}
"""By device: stages that fail at batch sizes 1 and 4, and what is said of the heads at batch size 4."""


@pytest.fixture(scope="session")
def mixed(suite: Suite) -> Ended:
    """One device that is right among many that are not."""
    return suite.run_once("mixed", f"--device=right,{','.join(FAULTS)},selective,larger,crashing", *CHECKS)


@pytest.fixture(scope="session")
def conforming(suite: Suite, tiny: TinySetup) -> Ended:
    """A run as a user would type it: paths apart from their options, no ONNX, every test of a device."""
    options = ["-p", "no:cacheprovider", "--model", str(tiny.card), "--weights", str(tiny.weights)]
    devices = ("-m", "accuracy", "--device", "right,onnxruntime,torch", *CHECKS)
    return suite.run_once("conforming", *devices, "--coco", str(tiny.coco), options=options)


def test_correct_devices_conform(conforming: Ended) -> None:
    assert (conforming.status, conforming.result.verdict) == (0, "conforms")
    assert conforming.result.problems == ()
    for device, execution in (("right", "stand-in"), ("onnxruntime", "silicon"), ("torch", "silicon")):
        run = conforming.run_of(device)
        assert (run.verdict, run.execution) == ("conforms", execution)
        assert conforming.outcomes(device, 4) == dict.fromkeys(EVERY_STAGE, "passed")
        assert sum(stage.comparisons for stage in run.stages) > 20
    heads = conforming.stage("right", "heads", 4)
    assert 0 < (heads.measured or 0) < (heads.allowed or 0) < 1e-3


def test_what_is_no_silicon_says_so_wherever_its_figures_stand(conforming: Ended) -> None:
    header = re.search("^device: right.*", conforming.output, re.MULTILINE)
    assert header is not None
    assert "(stand-in)" in header[0]
    closing = conforming.output.partition("= conformance =")[2]
    lines = [line for line in closing.splitlines() if re.match(r"right\b.*\d", line) and "stage" not in line]
    assert len(lines) == 6, closing  # speed and interval of two batch sizes, margins, verdict
    assert all("right (stand-in)" in line for line in lines)
    assert "comparisons over 11 images on right (stand-in)" in closing
    assert "onnxruntime (" not in closing


def test_run_says_what_it_ran_on_and_how_much_it_compared(conforming: Ended, tiny: TinySetup) -> None:
    data, environment = conforming.result.data, conforming.result.environment
    assert data is not None
    assert (data.images, data.sha256) == (IMAGES, tiny.dataset.content_hash)
    assert {"torch", "onnx", "onnxruntime", "numpy", "pycocotools", "python", "machine"} <= environment.keys()
    assert f"data: coco, {IMAGES} images, sha256 {data.sha256[:12]}" in conforming.output
    assert conforming.run_of("onnxruntime").executed["provider"] == "CPUExecutionProvider"
    for run in conforming.result.runs:
        count = sum(stage.comparisons for stage in run.stages)
        assert f"{count} comparisons over {IMAGES} images on {run.device}" in conforming.output


def test_ap_is_the_networks_own_on_the_same_images(conforming: Ended, tiny: TinySetup) -> None:
    card, dataset, device = tiny.model_card, tiny.dataset, TorchDevice()
    module = load_subject(card, tiny.weights, None).module
    artifact = device.convert(Exported(card, "module", module=module), 1, "fp32")
    expected = evaluate(dataset.instances, detect(device, artifact, card, dataset, 1)[0], card.category_ids).AP
    assert expected > 0.3
    for run in conforming.result.runs:
        assert [accuracy.batch_size for accuracy in run.accuracy] == [1, 4]
        for accuracy in run.accuracy:
            assert accuracy.images == IMAGES
            assert accuracy.reference_AP == pytest.approx(expected, abs=1e-9)
            assert abs(accuracy.AP - expected) <= accuracy.allowed_loss


def test_reference_measures_its_ap_and_does_not_compare_it_with_itself(conforming: Ended) -> None:
    stage = conforming.stage("torch", "accuracy", 1)
    assert (stage.outcome, stage.comparisons) == ("not-applicable", 0)
    assert stage.detail == "this run is the reference: its AP is measured, not compared"
    assert conforming.stage("torch", "heads", 1).comparisons > 0


def test_images_a_second_count_images_and_say_what_the_clock_saw(conforming: Ended) -> None:
    for run in conforming.result.runs:
        assert [perf.batch_size for perf in run.perf] == [1, 4]
        for perf in run.perf:
            assert perf.fps > 0
            assert perf.latency_ms.p50 <= perf.latency_ms.p90 <= perf.latency_ms.p99
            assert perf.interval.startswith("end to end")


def test_a_right_device_conforms_beside_wrong_ones(mixed: Ended) -> None:
    assert (mixed.status, mixed.result.verdict) == (1, "deviates")
    assert mixed.run_of("right").verdict == "conforms"
    assert mixed.outcomes("right", 4) == dict.fromkeys(EVERY_STAGE, "passed")


@pytest.mark.parametrize("device", FAULTS)
def test_wrong_device_deviates_where_it_is_wrong(mixed: Ended, device: str) -> None:
    alone, in_a_batch, message = FAULTS[device]
    assert mixed.run_of(device).verdict == "deviates"
    for batch_size, expected in ((1, alone), (4, in_a_batch)):
        outcomes = mixed.outcomes(device, batch_size)
        assert {stage for stage, outcome in outcomes.items() if outcome == "failed"} == expected
        assert outcomes.keys() == EVERY_STAGE
    detail = mixed.stage(device, "heads", 4).detail
    assert re.search(message, detail or ""), detail
    assert f"stage heads, device {device}, precision fp32, batch size 4: " in mixed.output
    assert f"{device}: stage heads at batch size 4: failed: {detail}" in mixed.output


@pytest.mark.parametrize(
    ("device", "fault"),
    [
        ("swapped", "wh-axes-swapped"),
        ("permuted", "batch-permuted"),
        ("stale", "batch-last-stale"),
        ("nan", "nan"),
        ("transposed", "heads-layout"),
    ],
)
def test_wrong_device_is_diagnosed(mixed: Ended, device: str, fault: str) -> None:
    first, *_ = mixed.run_of(device).diagnosis
    assert first.faults == (fault,)
    assert first.confidence >= 0.9
    [description] = [known.description for known in CATALOGUE if known.id == fault]
    assert f"{device} (stand-in): diagnosis: {description}: the reference with that mistake matches" in mixed.output
    assert mixed.run_of("right").diagnosis == ()
    assert [answer.faults for answer in mixed.run_of("slight").diagnosis] == [()]


def test_one_value_of_one_channel_of_one_sample_is_enough(mixed: Ended) -> None:
    stage = mixed.stage("slight", "heads", 4)
    assert stage.measured == pytest.approx(0.002, rel=0.1)
    assert stage.comparisons == 3 * 8
    assert "batch size 4: 2 of 24 comparisons deviate" in mixed.output


def test_ap_is_of_every_image_and_not_of_those_whose_heads_were_compared(mixed: Ended) -> None:
    assert mixed.run_of("selective").verdict == "deviates"
    for size in (1, 4):
        failed = {name for name, outcome in mixed.outcomes("selective", size).items() if outcome == "failed"}
        assert failed == {"accuracy", "detections"}
        [accuracy] = [a for a in mixed.run_of("selective").accuracy if a.batch_size == size]
        assert accuracy.reference_AP - accuracy.AP > accuracy.allowed_loss
        assert f"AP {accuracy.AP:.4f}, the reference reads {accuracy.reference_AP:.4f}" in mixed.output


def test_detections_of_every_image_are_held_to_the_reference(mixed: Ended) -> None:
    """AP shows nothing of it, and neither do the images whose heads are compared."""
    for size in (1, 4):
        failed = {name for name, outcome in mixed.outcomes("larger", size).items() if outcome == "failed"}
        assert failed == {"detections"}
        detail = mixed.stage("larger", "detections", size).detail
        assert detail is not None
        assert "detections of all images: measured" in detail
        assert re.search(
            r"3 of 11 images stand out; image \d+, detections: \d+ detections of the reference are", detail
        )


def test_device_that_crashes_does_not_conform_and_is_named(mixed: Ended) -> None:
    assert mixed.run_of("crashing").verdict == "incomplete"
    lacking = ("heads", "detections", "accuracy"), ("heads", "batch", "detections", "accuracy")
    named = [f"{stage} at batch size {size}" for size, stages in zip((1, 4), lacking, strict=True) for stage in stages]
    assert mixed.run_of("crashing").not_run == tuple(named)
    said = "incomplete, not run: heads, detections and accuracy at batch sizes 1 and 4; batch at batch size 4"
    assert f"crashing (stand-in) fp32: {said}\n" in mixed.output
    problems = [problem for problem in mixed.result.problems if "the driver has lost the device" in problem]
    assert len(problems) == 7  # every test but those of the contract and the one that a batch of one has not
    assert any("test_device_heads_equal_reference[crashing-batch4]" in problem for problem in problems)


def test_device_can_neither_end_nor_skip_the_run(suite: Suite) -> None:
    ended = suite.run("--device=right,leaving,skipping", "--batch-sizes=1", *CHECKS)
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert ended.run_of("right").verdict == "conforms"
    for device, message in (("leaving", "process ended with status 0"), ("skipping", "raised .*Skipped: the chip is")):
        assert ended.run_of(device).verdict == "incomplete"
        assert "heads at batch size 1" in ended.run_of(device).not_run
        said = f"device '{device}' of .*{message}"
        assert any(re.search(said, problem) for problem in ended.result.problems), ended.result.problems
    assert "skipped" not in ended.output.splitlines()[-1]


def test_messages_of_the_suite_come_without_traceback(mixed: Ended) -> None:
    part = mixed.output.partition("test_device_heads_equal_reference[fewer-batch4] ___")[2]
    assert part.splitlines()[1].startswith("stage heads, device fewer")
    assert "Error" not in part.partition("\n___")[0]


@pytest.mark.attacks
def test_document_is_the_same_from_two_processes_but_for_the_speed(suite: Suite, mixed: Ended) -> None:
    some = ("right", "swapped", "crashing")
    both = suite.run(f"--device={','.join(some)}", "-n", "2", *CHECKS, "conformance/device/test_perf.py")
    assert both.status == mixed.status
    assert "perf tests: deselected under -n, run them alone with: pytest -m perf" in both.output
    one, two = (end.result.model_dump() for end in (mixed, both))
    assert sorted(one.pop("problems")) == sorted(two.pop("problems"))
    one["runs"] = tuple(run for run in one["runs"] if run["device"] in some)
    assert [bool(run.pop("perf")) for run in one["runs"]] == [True, True, False]
    assert [run.pop("perf") for run in two["runs"]] == [()] * len(two["runs"])
    for accuracy in (one for document in (one, two) for run in document["runs"] for one in run["accuracy"]):
        del accuracy["reference_stored"]
    assert one == two


def test_golden_heads_are_those_of_the_weights_and_not_of_the_onnx(tiny: TinySetup, tmp_path: Path) -> None:
    model = onnx.load(tiny.onnx)
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "reg.2.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.01, bias.name))
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    options = parse_options(model=str(tiny.card), weights=tiny.weights, onnx=other, coco=tiny.coco)
    with closing(Session(options, tmp_path, print)) as session:
        stage = heads(session, "onnxruntime", 1).stage
    assert stage.outcome == "failed"
    assert "head reg: measured 0.01" in (stage.detail or "")


def test_onnx_without_weights_is_its_own_reference(suite: Suite, tiny: TinySetup) -> None:
    options = [option for option in suite.options if not option.startswith("--weights")]
    ended = suite.run("--device=right,swapped", *CHECKS, options=options)
    assert ended.run_of("right").verdict == "conforms"
    assert ended.run_of("swapped").verdict == "deviates"
    assert "model: ONNX sha256" in ended.output


def test_nothing_compared_does_not_conform(suite: Suite) -> None:
    """The AP of the reference is all that was asked for, and it is not compared with itself."""
    ended = suite.run("--device=torch", "--batch-sizes=1", "conformance/device/test_accuracy.py")
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    assert "1 passed" in ended.output
    assert "0 comparisons over 11 images on torch" in ended.output


def test_tests_of_the_suite_itself_say_nothing_of_a_device(suite: Suite) -> None:
    ended = suite.run("--device=right", "conformance/harness/data/test_detections.py", "-k", "keep_their_own_copy")
    assert "1 passed" in ended.output
    assert (ended.status, ended.result.verdict, ended.run_of("right").verdict) == (1, "undecided", "undecided")


def test_what_is_not_green_is_told_at_once_and_heads_before_all_images(mixed: Ended) -> None:
    at_once = mixed.output.partition("= FAILURES =")[0]
    assert re.search(r"\nswapped, batch size 1: stage heads: failed: image 139, sample 0, head wh", at_once)
    assert at_once.index("right, batch size 1: heads of 8 sample images are right; next: all images") < at_once.index(
        "selective, batch size 1: stage accuracy: failed"
    )
    assert at_once.index("swapped, batch size 1: stage heads: failed") < at_once.index(
        "swapped, batch size 1: stage accuracy: failed"
    )
