"""The suite on Sophon's simulated chips, over a stand-in for tpu_mlir: its verdicts, its figures, and the gate."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.example_records import document, run
from conformance.support.stand_ins import tpu_mlir as fake_tpu_mlir
from conformance.support.suite import CHECKS, Ended, Suite
from conformance.support.tiny import IMAGES, TinySetup
from harness.cards.tolerances import load_tolerance
from harness.report.baseline import regressions
from harness.report.records import Latency, Perf, Run

X, OLD = "bm1684x:simulated", "bm1684:simulated"
_, CONVERSION, HEADS = CHECKS
PERF = "conformance/device/test_perf.py"
SPEED = f"{PERF}::test_compiler_estimates_the_speed"


class SophonSuite(Suite):
    """Runs over the tiny setup in a cache of one's choice, with a toolchain that makes mistakes on demand."""

    cache = Path()
    mistakes = ""

    @property
    def environment(self) -> dict[str, str]:
        own = {"CENTERNET_CONFORMANCE_CACHE": str(self.cache), fake_tpu_mlir.MISTAKES: self.mistakes}
        return {**super().environment, **own}

    def check(self, devices: str, *arguments: str, mistakes: str = "", export: bool = False) -> Ended:
        """A run at batch size 1 on two images."""
        self.mistakes = mistakes
        options = [option for option in self.options if not (export and option.startswith("--onnx="))]
        return self.run(f"--device={devices}", "--batch-sizes=1", "--limit=2", *arguments, options=options)


@pytest.fixture(scope="module")
def forked(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SophonSuite]:
    """With a model as the chips take it, lest every run export one."""
    folder = tmp_path_factory.mktemp("sophon") / "tiny"
    shutil.copytree(tiny.root, folder, ignore=shutil.ignore_patterns("cache", "*.pickle", "*.lock"))
    own = TinySetup(folder)
    fake_tpu_mlir.static(own.card, tiny.onnx, own.onnx, 1)
    with SophonSuite(own) as suite:
        yield suite


@pytest.fixture
def sophon(forked: SophonSuite, tmp_path: Path) -> SophonSuite:
    """In a cache of its own."""
    forked.cache = tmp_path / "cache"
    fake_tpu_mlir.install(forked.cache)
    return forked


def test_simulated_chips_conform_and_every_figure_says_that_they_are_simulated(sophon: SophonSuite) -> None:
    ended = sophon.check(f"{X},{OLD}", *CHECKS, export=True)
    assert ended.status == 0, ended.output
    for device in (X, OLD):
        found = ended.run_of(device)
        assert (found.execution, found.verdict) == ("simulated", "conforms")
        assert found.executed["chip"] == device.split(":")[0]
        assert ended.outcomes(device, 1)["heads"] == ended.outcomes(device, 1)["detections"] == "passed"
        assert found.accuracy[0].AP > 0.3
    figures = [line for line in ended.output.splitlines() if line.startswith("bm1684") and re.search(r"\d\.\d\d", line)]
    assert len(figures) >= 2
    assert all("(simulated)" in line for line in figures)
    assert re.search(rf"comparisons over 2 images on {X} \(simulated\)", ended.output)


def test_chip_without_its_toolchain_ends_the_run_with_the_command_that_installs_it(
    forked: SophonSuite, tmp_path: Path
) -> None:
    forked.cache = tmp_path / "empty"
    ended = forked.check(X, *CHECKS)
    assert (ended.status, ended.result.verdict, ended.result.runs) == (4, "error", ())
    assert "python -m harness doctor --install tpu_mlir" in ended.output
    assert "Traceback" not in ended.output


def test_chip_itself_is_not_replaced_by_its_simulator(sophon: SophonSuite) -> None:
    ended = sophon.check("bm1684x", *CHECKS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "sophon.sail cannot be imported" in ended.output
    assert "--device bm1684x:simulated" in ended.output
    assert not (sophon.cache / "bmodel").exists()


def test_operator_left_to_the_host_deviates_where_the_chip_should_do_all(sophon: SophonSuite) -> None:
    ended = sophon.check(f"{X},{OLD}", CONVERSION, mistakes="host-operator")
    assert ended.status == 1
    assert (ended.run_of(X).verdict, ended.stage(OLD, "contract", 1).outcome) == ("deviates", "passed")
    contract = ended.stage(X, "contract", 1)
    assert contract.outcome == "failed"
    assert "left to the host's CPU: grid_sampler" in (contract.detail or "")
    assert [ended.run_of(device).executed["host operators"] for device in (X, OLD)] == 2 * ["1 x grid_sampler"]


@pytest.mark.parametrize(("precision", "mistake"), [("int8", "nan"), ("fp32", "dropped-output")])
def test_nan_deviates_even_at_int8_and_a_missing_output_does(sophon: SophonSuite, precision: str, mistake: str) -> None:
    ended = sophon.check(X, HEADS, f"--precision={precision}", "--calibration-images=2", mistakes=mistake)
    assert (ended.status, ended.run_of(X).verdict) == (1, "deviates")
    heads = ended.stage(X, "heads", 1)
    assert heads.outcome == "failed"
    assert ("NaN" if mistake == "nan" else "got hm, wh") in (heads.detail or "")


def test_heads_of_int8_are_measured_and_the_verdict_is_by_ap(sophon: SophonSuite) -> None:
    checks = (*CHECKS, "--precision=int8", "--calibration-images=2")
    ended = sophon.check(X, *checks, f"--limit={IMAGES}")
    assert (ended.status, ended.run_of(X).verdict) == (0, "conforms"), ended.output
    heads = ended.stage(X, "heads", 1)
    assert (heads.outcome, heads.allowed, heads.comparisons) == ("not-applicable", None, 24)
    assert 1 / 1024 < (heads.measured or 0) < 1 / 256  # the stand-in rounds to multiples of 1/256
    assert re.match(r"largest difference of hm 0\.00\d+, wh 0\.00\d+, reg 0\.00\d+; ", heads.detail or "")
    outcomes = ended.outcomes(X, 1)
    assert (outcomes["detections"], outcomes["accuracy"]) == ("not-applicable", "passed")
    [accuracy] = ended.run_of(X).accuracy
    assert accuracy.allowed_loss == 0.01


def speed(fps: float, interval: str) -> Run:
    latency = Latency(p50=1000 / fps, p90=1000 / fps, p99=1000 / fps)
    return run().model_copy(update={"perf": (Perf(batch_size=1, fps=fps, latency_ms=latency, interval=interval),)})


@given(before=st.integers(1, 10**6), after=st.integers(1, 10**6))
def test_gate_holds_estimates_to_the_last_digit_and_clocked_speeds_not_at_all(before: int, after: int) -> None:
    clocked = "device: host arrays in, host arrays out"
    estimated = "estimated: compiler's estimate at 550 MHz"
    assert bool(regressions(document(speed(before, estimated)), [speed(after, estimated)])) == (after < before)
    for intervals in ((clocked, clocked), (estimated, clocked), (clocked, estimated)):
        old, new = (speed(fps, interval) for fps, interval in zip((before, after), intervals, strict=True))
        assert regressions(document(old), [new]) == []


def test_only_int8_has_no_tolerance_of_its_heads() -> None:
    derivable = {name: load_tolerance(name).derivable for name in ("fp32", "fp16", "bf16", "int8")}
    assert derivable == {"fp32": True, "fp16": True, "bf16": True, "int8": False}
    assert load_tolerance("int8").allowed(100, 1.0) == float("inf")


def test_estimated_speed_says_so_and_nobody_clocks_a_simulator(sophon: SophonSuite) -> None:
    ended = sophon.check(f"{X},{OLD}", PERF, "-m", "perf")
    assert ended.status == 0, ended.output
    for device in (X, OLD):
        [speed] = ended.run_of(device).perf
        assert speed.estimated
        assert speed.interval.startswith("estimated: compiler's estimate at ")
        assert speed.fps == pytest.approx(1000 / fake_tpu_mlir.LATENCY_MS)
        assert speed.latency_ms.p50 == fake_tpu_mlir.LATENCY_MS
        assert ended.outcomes(device, 1) == {
            "estimate": "passed",
            **dict.fromkeys(("perf", "pipeline", "harness-overhead", "stated speed"), "not-applicable"),
        }
    assert re.search(rf"^{X} \(simulated\) .*400\.00 .*estimated: ", ended.output, re.MULTILINE)


def test_estimate_that_is_faster_than_its_own_traffic_deviates(sophon: SophonSuite) -> None:
    ended = sophon.check(X, SPEED, mistakes="faster-than-memory")
    assert (ended.status, ended.stage(X, "estimate", 1).outcome) == (1, "failed")
    assert "faster than its own traffic with the memory" in ended.output


def test_estimate_that_falls_at_all_is_worse_than_the_baseline(sophon: SophonSuite, tmp_path: Path) -> None:
    assert sophon.check(X, PERF, f"--results={tmp_path / 'old.json'}").status == 0
    shutil.rmtree(sophon.cache / "bmodel")
    slow = sophon.check(X, PERF, f"--baseline={tmp_path / 'old.json'}", mistakes="slow")
    assert (slow.status, slow.result.verdict) == (1, "deviates")
    assert slow.result.problems == (f"{X} fp32: estimated fps at batch size 1 fell from 400 to 200",)


def test_two_images_decide_nothing_where_ap_alone_decides(sophon: SophonSuite) -> None:
    ended = sophon.check(X, *CHECKS, "--precision=int8", "--calibration-images=2")
    assert (ended.status, ended.result.verdict, ended.run_of(X).verdict) == (1, "undecided", "undecided")
    stage = ended.stage(X, "accuracy", 1)
    assert stage.outcome == "undecided"
    assert stage.detail is not None
    assert stage.detail.startswith("not decidable on 2 images: AP loss 0.0000, 95% interval ")
    assert stage.detail.endswith("about 10 images would settle it")
    assert f"stage accuracy at batch size 1: undecided: {stage.detail}" in ended.output
    [accuracy] = ended.run_of(X).accuracy
    assert accuracy.loss_interval is not None
    assert (accuracy.loss_interval.decides, accuracy.loss_interval.images_to_decide) == (False, 10)
    assert ended.result.problems == ()
