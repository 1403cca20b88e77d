"""A gate that compares nothing, or holds a run to what was never green, is no gate."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from conformance.support.example_records import accuracy, document, run, stage
from conformance.support.small_model import small_card
from harness.errors import HarnessError
from harness.report.baseline import Gated, check_matches, read_document, regressions, uncompared
from harness.report.records import Document, Verdict, to_json
from harness.run.subject import Subject

pytestmark = pytest.mark.attacks

FILE = Path("old.json")
CHIP = (("chip", "fp32"),)
GATED = Gated("tiny", "ab" * 32, CHIP, (1, 4), "11" * 32)
GREEN = document(run(stage("passed", "accuracy"), stage("passed"), accuracy(0.5)))

Edit = Callable[[dict[str, Any]], object]


def refusal(earlier: Document, gated: Gated = GATED, *, allow: bool = False) -> str:
    with pytest.raises(HarnessError) as caught:
        check_matches(earlier, FILE, gated, allow_other_weights=allow)
    assert (caught.value.file, caught.value.field) == (str(FILE), "--baseline")
    assert caught.value.remedy
    return caught.value.cause


@pytest.mark.attacks(always=True)
def test_baseline_at_other_batch_sizes_gates_nothing() -> None:
    cause = refusal(GREEN, Gated("tiny", "ab" * 32, CHIP, (8, 16)))
    assert cause == "the baseline matches nothing of this run: its batch sizes are 1, this run's are 8, 16"


def test_baseline_of_empty_runs_gates_nothing() -> None:
    assert refusal(document(run())).endswith("its runs of chip fp32 hold no stage, no AP and no speed")


@pytest.mark.parametrize("verdict", ["error", "deviates", "incomplete", "part"])
def test_baseline_that_is_not_green_itself_gates_nothing(verdict: Verdict) -> None:
    for earlier in (
        GREEN.model_copy(update={"verdict": verdict}),
        document(run(stage("passed")).model_copy(update={"verdict": verdict})),
    ):
        cause = refusal(earlier)
        assert cause.startswith("the baseline is no green run: its verdict")
        assert cause.endswith(f"is '{verdict}'")


def test_baseline_with_a_failed_stage_deviates_whatever_it_says_of_itself() -> None:
    cause = refusal(document(run(stage("passed"), stage("failed", "accuracy"), accuracy(0.0))))
    assert cause == "the baseline is no green run: its verdict on chip fp32 is 'deviates'"


@pytest.mark.parametrize("ap", [math.nan, -5.0, 1.5, math.inf, -math.inf])
def test_ap_that_is_none_is_no_baseline(tmp_path: Path, ap: float) -> None:
    written = to_json(GREEN)
    written["runs"][0]["accuracy"][0]["AP"] = ap
    file = tmp_path / "old.json"
    file.write_text(json.dumps(written))
    with pytest.raises(HarnessError, match=r"not a results document .*: runs\.0\.accuracy\.0\.AP: Input should be"):
        read_document(file)


@pytest.mark.parametrize("fps", [math.nan, 0.0, -1.0])
def test_estimate_that_is_none_is_no_baseline(tmp_path: Path, fps: float) -> None:
    written = to_json(GREEN)
    latency = {"p50": 1.0, "p90": 1.0, "p99": 1.0}
    speed = {"batch_size": 1, "fps": fps, "latency_ms": latency, "interval": "estimated: at 550 MHz"}
    written["runs"][0]["perf"] = [speed]
    file = tmp_path / "old.json"
    file.write_text(json.dumps(written))
    with pytest.raises(HarnessError, match=r"runs\.0\.perf\.0\.fps: Input should be"):
        read_document(file)


def test_baseline_of_other_weights_with_the_same_name_needs_a_word() -> None:
    other = GREEN.model_copy(update={"weights_sha256": "22" * 32})
    assert refusal(other) == "the baseline is of other weights: sha256 222222222222, this run's: sha256 111111111111"
    check_matches(other, FILE, GATED, allow_other_weights=True)
    check_matches(other.model_copy(update={"weights_sha256": "11" * 32}), FILE, GATED)


def test_baseline_of_another_onnx_with_the_same_name_needs_a_word() -> None:
    own = Gated("tiny", "ab" * 32, CHIP, (1,), None, "33" * 32)
    other = GREEN.model_copy(update={"onnx_sha256": "44" * 32})
    assert "of other weights (ONNX): sha256 444444444444, this run's: sha256 333333333333" in refusal(other, own)
    exported = GREEN.model_copy(update={"weights_sha256": "11" * 32})
    assert refusal(exported, own).endswith("sha256 111111111111, this run's: none")
    check_matches(other, FILE, own, allow_other_weights=True)


def test_weights_beside_an_onnx_are_part_of_its_hash(tmp_path: Path) -> None:
    found = []
    for value in (1.0, 2.0):
        weight = numpy_helper.from_array(np.full((2, 2), value, np.float32), "w")
        sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 2)) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [weight])
        model = helper.make_model(graph)
        convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
        folder = tmp_path / str(value)
        folder.mkdir()
        onnx.save(model, folder / "model.onnx")
        found.append((folder / "model.onnx").read_bytes())
        found.append((Subject(small_card(None), None, folder / "model.onnx", "").onnx_sha256 or "").encode())
    assert found[0] == found[2]
    assert found[1] != found[3]


def test_stage_that_was_green_and_did_not_run_is_worse() -> None:
    found = regressions(GREEN, [run(stage("passed", "contract"), stage("passed"))])
    assert found == ["chip fp32: stage accuracy at batch size 1 passed and is now not run"]


def test_run_that_shares_no_stage_and_no_ap_is_held_to_nothing() -> None:
    alone = run(stage("passed", "contract"))
    found = uncompared(document(run(stage("passed", "estimate"))), [alone])
    assert found == ["chip fp32: no stage, no AP and no estimate in common with the baseline"]
    assert uncompared(document(alone), [run(stage("passed", "contract"), accuracy(0.1))]) == [
        "chip fp32: no AP in common with the baseline"
    ]
    assert uncompared(GREEN, [run(stage("passed"), accuracy(0.5))]) == []
