"""The older model is checked before any work, and stands as a stage in the document of either command."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from conformance.support.suite import CHECKS, Suite
from harness.devices.registry import create_device
from harness.errors import HarnessError
from harness.run.options import MAX_SLOWDOWN, parse_options
from harness.run.yardstick import SIDE, yardstick_card, yardstick_network


def renamed_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "heat"
    for node in model.graph.node:
        node.output[:] = ["heat" if name == "hm" else name for name in node.output]
        node.input[:] = ["heat" if name == "hm" else name for name in node.input]


def other_side(model: onnx.ModelProto) -> None:
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = 96


@pytest.mark.parametrize(
    ("change", "said"), [(renamed_output, "output.names"), (other_side, "input")], ids=["name", "shape"]
)
def test_onnx_of_other_tensors_is_refused_before_any_work(
    suite: Suite, tmp_path: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    model = onnx.load(suite.tiny.onnx)
    change(model)
    onnx.save(model, tmp_path / "old.onnx")
    ended = suite.check("--against", str(tmp_path / "old.onnx"))
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "old.onnx" in ended.output
    assert said in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"\x08\x07cut", "ONNX"), (b"", "ONNX")])
def test_missing_and_damaged_files_are_refused(suite: Suite, tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "old.onnx").write_bytes(content)
    ended = suite.run("--against", str(tmp_path / "old.onnx"), *CHECKS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "old.onnx" in ended.output
    assert said.lower() in ended.output.lower()
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("command", ["check", "pytest"])
def test_stage_stands_in_the_document_of_either_command(suite: Suite, command: str) -> None:
    """The limit is so wide that no load of the machine makes a model look slower than itself."""
    given = (f"--against={suite.tiny.onnx}", "--max-slowdown=100%", "--batch-sizes=1")
    ended = suite.check(*given) if command == "check" else suite.run(*given, "-m=accuracy", "conformance/device")
    stage = ended.stage("onnxruntime", "against", 1)
    assert stage.outcome != "failed"
    assert stage.allowed == 2
    assert f"against {suite.tiny.onnx}: " in str(stage.detail)
    assert ended.run_of("onnxruntime").not_run == ()


def test_gate_that_was_asked_for_is_owed(suite: Suite) -> None:
    ended = suite.run(f"--against={suite.tiny.onnx}", "--batch-sizes=1", *CHECKS)  # which does not name its test
    assert ended.run_of("onnxruntime").not_run == ("against at batch size 1",)
    assert (ended.status, ended.result.verdict) == (1, "incomplete")


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        ({"max_slowdown": "5%"}, "--max-slowdown", "nothing that it is a limit to"),
        ({"max_slowdown": "0.05", "against": "a.onnx"}, "--max-slowdown", "'0.05' is no share of the time"),
        ({"max_slowdown": "0%", "against": "a.onnx"}, "--max-slowdown", "give percent, such as 5%"),
        ({"max_slowdown": "101%", "against": "a.onnx"}, "--max-slowdown", "up to 100%"),
        ({"max_slowdown": "nan%", "against": "a.onnx"}, "--max-slowdown", "is no share of the time"),
        ({"against": "onnxruntime"}, "--against", "held to itself"),
        ({"against": "a.onnx", "workers": 2}, "--against", "spoil each other's times"),
        ({"against": "a.onnx", "outputs": "out"}, "--against", "have no time"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said) as caught:
        parse_options(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_limit_is_percent() -> None:
    assert parse_options(against="a.onnx", max_slowdown="7.5%").slowdown_allowed == 0.075
    assert parse_options(against="a.onnx").slowdown_allowed == MAX_SLOWDOWN


def test_device_that_has_no_speed_is_no_second_device(suite: Suite) -> None:
    emulated = "ascend310:emulated"
    assert create_device(emulated).card.reason_against("perf") is not None
    ended = suite.check("--against", emulated)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert f"device '{emulated}'" in ended.output


def test_yardstick_is_the_same_network_every_time() -> None:
    card = yardstick_card()
    first, second = (yardstick_network(card).state_dict() for _ in range(2))
    assert (card.input.height, card.input.width) == (SIDE, SIDE)
    assert first.keys() == second.keys()
    assert all(bool((first[name] == second[name]).all()) for name in first)
