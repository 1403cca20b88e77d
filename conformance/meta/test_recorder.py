"""A finding is written down before the test fails by it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.plugin.recorder import Recorder, StageFailure, StageUndecided
from conformance.support.suite import Suite
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, undecided
from harness.report.records import Diagnosis, Reported, Stage, unpack

COMPARISON = Comparison("head hm", 2.0, 1.0, 9, "too far")


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (judge("heads", 4, [COMPARISON]), StageFailure),
        (undecided("heads", 4, COMPARISON, "not decidable on 50 images"), StageUndecided),
    ],
)
def test_stage_that_is_not_green_is_written_down_and_fails_the_test(
    result: StageResult, kind: type[StageFailure]
) -> None:
    item: Any = SimpleNamespace(user_properties=[], path=Path("test_x.py"), name="test_x")
    said = list[str]()
    answer = Diagnosis(faults=(), residual=None, confidence=0.5)
    with pytest.raises(kind) as caught:
        Recorder(cast(pytest.Item, item), "chip", "fp32", 4, said.append).settle(result, lambda: [answer])
    assert caught.value.stage == "heads"
    assert said == [f"chip, batch size 4: stage heads: {result.stage.outcome}: {result.stage.detail}"]
    assert str(caught.value).startswith(result.message("chip", "fp32") + "\n  diagnosis: unknown: none of the")
    messages = [unpack(text) for _, text in item.user_properties]
    assert [message.record for message in messages if isinstance(message, Reported)] == [result.stage, answer]


def test_stage_that_passes_is_written_down() -> None:
    item: Any = SimpleNamespace(user_properties=[], path=Path("test_x.py"), name="test_x")
    Recorder(cast(pytest.Item, item), "chip", "fp32", 4, pytest.fail).stage(
        "heads", [Comparison("head hm", 0.5, 1.0, 9)]
    )
    [(_, text)] = item.user_properties
    message = unpack(text)
    assert isinstance(message, Reported)
    assert isinstance(message.record, Stage)
    assert message.record.outcome == "passed"


def test_speed_is_measured_and_owes_the_other_tests_of_speed(suite: Suite, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ("-m", "perf", f"--benchmark-json={file}", "--batch-sizes=4", "-k", "fps_of_the_device")
    ended = suite.run("--device=right", *options, "conformance/device/test_perf.py")
    assert (ended.status, ended.result.verdict) == (1, "incomplete")
    others = ("estimate", "stated speed", "harness-overhead", "pipeline")
    assert ended.run_of("right").not_run == tuple(f"{stage} at batch size 4" for stage in others)
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
