"""The older model is checked before any work, and stands as a stage in the document of either command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

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


def add_layer(model: onnx.ModelProto, name: str, factor: float) -> None:
    """Add a convolution of some milliseconds that all but makes up the model's time; the outputs stay as they are.

    Args:
        model: Of the tiny network; it is changed.
        name: Of the layer.
        factor: Of its weights, so that the runtime does not merge two such layers.
    """
    graph = model.graph
    output = graph.output[0].name
    weights = np.full((512, 3, 7, 7), 0.01 * factor, np.float32)
    parts = {"w": weights, "starts": np.zeros(3, np.int64), "ends": np.ones(3, np.int64), "nothing": np.float32(0)}
    parts["axes"] = np.arange(1, 4)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(part), f"{name}.{key}") for key, part in parts.items())
    [before] = [node for node in graph.node if output in node.output]
    before.output[0] = f"{name}.before"
    one = [f"{name}.y", f"{name}.starts", f"{name}.ends", f"{name}.axes"]
    graph.node.extend(
        [
            helper.make_node("Conv", [graph.input[0].name, f"{name}.w"], [f"{name}.y"], pads=[3] * 4),
            helper.make_node("Slice", one, [f"{name}.value"]),
            helper.make_node("Mul", [f"{name}.value", f"{name}.nothing"], [f"{name}.zero"]),
            helper.make_node("Add", [f"{name}.before", f"{name}.zero"], [output]),
        ]
    )


@pytest.mark.parametrize(("new", "outcome"), [("doubled", "failed"), ("original", "passed")])
def test_onnx_with_a_layer_doubled_is_told_from_the_original_and_the_original_from_itself(
    suite: Suite, tmp_path: Path, new: str, outcome: str
) -> None:
    """The layer is nearly all of the time, so that the limit lies midway between the ratios 1 and 2 on any machine."""
    model = onnx.load(suite.tiny.onnx)
    for name, factor in (("original", 1.0), ("doubled", 1.001)):
        add_layer(model, name, factor)
        onnx.save(model, tmp_path / f"{name}.onnx")
    old = tmp_path / "original.onnx"
    ended = suite.check(f"--onnx={tmp_path / new}.onnx", f"--against={old}", "--max-slowdown=50%", "--batch-sizes=1")
    stage = ended.stage("onnxruntime", "against", 1)
    assert stage.outcome == outcome, ended.output
    assert ended.outcomes("onnxruntime", 1)["heads"] == "passed"
    assert (ended.status, ended.result.verdict) == ((1, "deviates") if outcome == "failed" else (0, "conforms"))
    assert ("slower than by the 50% that are allowed" in ended.output) == (outcome == "failed")


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
    assert "--against: " in ended.output
    assert "remedy: give an older model with the inputs and outputs of this card" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x08\x07cut", "old.onnx: --against: the file is truncated or no ONNX"),
        (b"", "old.onnx: --against: the file is truncated or no ONNX: it holds no graph"),
        (None, "old.onnx: --against: cannot read the ONNX: it is a folder"),
    ],
)
def test_damaged_files_and_folders_are_refused(suite: Suite, tmp_path: Path, content: bytes | None, said: str) -> None:
    old = tmp_path / "old.onnx"
    _ = old.mkdir() if content is None else old.write_bytes(content)
    ended = suite.run("--against", str(old), *CHECKS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert said in ended.output
    assert "\n  remedy: " in ended.output
    assert "Traceback" not in ended.output


def test_what_is_neither_a_file_nor_a_device_is_refused_with_the_device_that_may_be_meant(suite: Suite) -> None:
    ended = suite.check("--against=onxruntime")
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "--against: no such file, and no device of this name: 'onxruntime'" in ended.output
    assert "  remedy: did you mean 'onnxruntime'? give an older ONNX or weights, or one of the devices " in ended.output


def test_second_device_that_is_not_here_or_cannot_run_the_model_is_refused_before_any_work(
    suite: Suite, tmp_path: Path
) -> None:
    without_network = tmp_path / "card.toml"
    text = suite.tiny.card.read_text()
    without_network.write_text(text[: text.index("[network]")] + text[text.index("[input]") :])
    given = (f"--model={without_network}", f"--onnx={suite.tiny.onnx}", f"--coco={suite.tiny.coco}")
    for old, said in (
        ("absent", "--against absent: no chip answers on the bus"),
        ("torch", "--against: device 'torch' runs the PyTorch network, and only an ONNX was given"),
    ):
        ended = suite.run("--against", old, options=("check", *given), module="harness")
        assert (ended.status, ended.result.verdict, ended.result.runs) == (4, "error", ())
        assert said in ended.output


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
