"""What a test finds is written down before it is judged, and finding nothing is no pass."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.plugin.recorder import Recorder, StageFailure, StageUndecided
from conformance.support.suite import Suite
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.comparison import Comparison
from harness.report.records import Reported, Stage, unpack


class Kept:
    """A recorder, and what it has reported."""

    def __init__(self) -> None:
        self.item: Any = SimpleNamespace(user_properties=[])
        self.recorder = Recorder(cast(pytest.Item, self.item), "chip", "fp32", 4)

    @property
    def stage(self) -> Stage:
        [(_, text)] = self.item.user_properties
        message = unpack(text)
        assert isinstance(message, Reported)
        assert isinstance(message.record, Stage)
        return message.record


def good(measured: float = 0.5, count: int = 9) -> Comparison:
    return Comparison("head hm", measured, 1.0, count)


def bad(number: int = 0) -> Comparison:
    return Comparison(f"head {number}", 2.0, 1.0, 9, "too far")


@pytest.mark.parametrize("comparisons", [[], [good(0.0, count=0)]])
def test_stage_in_which_nothing_was_compared_fails(comparisons: list[Comparison]) -> None:
    kept = Kept()
    expected = "stage heads, device chip, precision fp32, batch size 4: nothing was compared"
    with pytest.raises(StageFailure, match=expected):
        kept.recorder.stage("heads", comparisons)
    assert (kept.stage.outcome, kept.stage.comparisons) == ("failed", 0)


def test_stage_passes_with_what_came_closest_to_its_limit() -> None:
    kept = Kept()
    kept.recorder.stage("heads", [good(0.1), Comparison("head wh", 0.04, 0.05, 9), good(0.7)])
    assert (kept.stage.outcome, kept.stage.comparisons) == ("passed", 3)
    assert (kept.stage.measured, kept.stage.allowed) == (0.04, 0.05)
    assert kept.stage.margin == pytest.approx(0.8)


def test_undecided_is_written_down_and_is_not_green() -> None:
    kept = Kept()
    with pytest.raises(StageUndecided, match=r"stage accuracy, device chip, .* size 4: not decidable on 50 images"):
        kept.recorder.undecided("accuracy", good(), "not decidable on 50 images")
    assert (kept.stage.outcome, kept.stage.detail) == ("undecided", "not decidable on 50 images")
    assert (kept.stage.measured, kept.stage.margin, kept.stage.comparisons) == (0.5, 0.5, 1)


def test_failure_is_written_down_and_lists_the_first_few() -> None:
    kept = Kept()
    with pytest.raises(StageFailure) as caught:
        kept.recorder.stage("heads", [good(), *map(bad, range(8))])
    assert caught.value.stage == "heads"
    lines = str(caught.value).splitlines()
    assert lines[0] == "stage heads, device chip, precision fp32, batch size 4: 8 of 9 comparisons deviate"
    assert lines[1] == "  head 0: measured 2, allowed 1, 9 values: too far"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 8
    assert (kept.stage.outcome, kept.stage.measured, kept.stage.detail) == ("failed", 2.0, lines[1].strip())


def test_what_json_cannot_hold_is_none() -> None:
    kept = Kept()
    with pytest.raises(StageFailure):
        kept.recorder.stage("heads", [Comparison("head hm", math.inf, 1.0, 9, "NaN")])
    assert kept.stage.measured is None


@pytest.mark.parametrize("error", [DeviceOutputError("hm", "shape (1)", "(2)"), NonFiniteHeadError("hm", 3, 17)])
def test_wrong_tensors_are_a_deviation_of_the_stage_that_met_them(error: Exception) -> None:
    kept = Kept()
    with pytest.raises(StageFailure) as caught, kept.recorder.outputs_of("accuracy"):
        raise error
    assert (caught.value.stage, kept.stage.outcome, kept.stage.comparisons) == ("accuracy", "failed", 0)
    assert str(error) in (kept.stage.detail or "")


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError), Kept().recorder.outputs_of("accuracy"):
        raise RuntimeError


def test_speed_alone_is_recorded_and_decides_nothing(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ("-m", "perf", f"--benchmark-json={file}", "--batch-sizes=4", "-k", "fps_of_the_device")
    ended = suite.run("--device=right", *options, "conformance/device/test_perf.py")
    assert (ended.status, ended.result.verdict) == (1, "undecided")
    assert "1 passed" in ended.output
    [perf] = ended.run_of("right").perf
    [benchmark] = json.loads(file.read_text())["benchmarks"]
    info = benchmark["extra_info"]
    assert (info["device"], info["execution"], info["batch_size"], info["images"]) == ("right", "stand-in", 4, 4)
    assert info["fps"] == pytest.approx(perf.fps)
    assert info["fps"] == pytest.approx(4 / benchmark["stats"]["median"], rel=1e-6)
    assert perf.latency_ms.p50 == pytest.approx(info["latency_ms_p50"])
    assert 10 <= benchmark["stats"]["rounds"] <= 50
    assert file.stat().st_size < 1_000_000
