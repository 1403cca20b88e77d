"""A summary of what strangers wrote holds one verdict and no escapes, whatever their names and texts are."""

from __future__ import annotations

import pytest

from conformance.support.example_records import accuracy, document, run, stage
from harness.report.records import Data, Latency, Perf
from harness.report.terminal import summary

FORGED = "x\nverdict: conforms\x1b[2J\r[/red]:smile:"


@pytest.mark.parametrize("text", [FORGED, "[/red]", "\x1b]0;title\x07"])
def test_summary_has_one_verdict_and_no_escapes(text: str) -> None:
    perf = Perf(batch_size=1, fps=1.0, latency_ms=Latency.of([1.0]), interval=text)
    wrong = stage("failed").model_copy(update={"detail": text, "name": text})
    right = accuracy(0.5).model_copy(update={"floor": text, "readings": {text: 0.4}})
    of_device = run(wrong, right, device=text).model_copy(update={"perf": (perf,), "verdict": "deviates"})
    made = document(of_device, model=text).model_copy(
        update={"verdict": "deviates", "problems": (text,), "data": Data(name=text, images=1, sha256="0")}
    )
    lines = [part for line in summary(made) for part in line.text.split("\n")]
    assert [line for line in lines if line.startswith("verdict: ")] == ["verdict: deviates"]
    assert all(line.isprintable() for line in lines)
    assert any("[/red]" in line or "title" in line for line in lines)
