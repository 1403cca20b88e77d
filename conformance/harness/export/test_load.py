"""ONNX files of users: read completely or refused by name, and their statements about themselves."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from harness.devices.artifact import TensorSpec
from harness.errors import HarnessError
from harness.export import load_onnx_checked
from harness.export.load import precision_of, stated_by

pytestmark = pytest.mark.export


def convolution(kind: int = TensorProto.FLOAT, batch: int | str = 1, weights: int = 4) -> ModelProto:
    """Make a convolution with weights as initializer and as input with a default, as in old files."""
    kernel = np.random.default_rng(0).standard_normal((weights, 3, 3, 3))
    tensor = numpy_helper.from_array(kernel.astype(helper.tensor_dtype_to_np_dtype(kind)), "kernel")
    inputs = [
        helper.make_tensor_value_info("pixels", kind, [batch, 3, 8, 12]),
        helper.make_tensor_value_info("kernel", kind, kernel.shape),
    ]
    output = helper.make_tensor_value_info("hm", kind, [batch, weights, 8, 12])
    node = helper.make_node("Conv", ["pixels", "kernel"], ["hm"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "g", inputs, [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize(("batch", "static"), [(4, 4), ("batch", None)])
def test_a_model_states_its_tensors_and_batch_size(batch: int | str, static: int | None) -> None:
    stated = stated_by(convolution(batch=batch))
    assert stated.inputs == (TensorSpec("pixels", (static, 3, 8, 12), "float32"),)
    assert stated.outputs == (TensorSpec("hm", (static, 4, 8, 12), "float32"),)
    assert stated.batch_size == static


def test_precision_is_that_of_weights_and_values() -> None:
    assert precision_of(convolution()) == "fp32"
    assert precision_of(convolution(TensorProto.FLOAT16)) == "fp16"
    assert precision_of(convolution(TensorProto.DOUBLE)) == "fp64"
    inner = convolution()
    node = inner.graph.node[0]
    halves = {"pixels": "half", "kernel": "half_kernel"}
    node.input[:] = halves.values()
    casts = [helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16) for name, half in halves.items()]
    node.output[0] = "half_hm"
    back = helper.make_node("Cast", ["half_hm"], ["hm"], to=TensorProto.FLOAT)
    inner.graph.ClearField("node")
    inner.graph.node.extend([*casts, node, back])
    assert precision_of(onnx.shape_inference.infer_shapes(inner)) == "fp16+fp32"
    for operator in ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"):
        quantised = convolution()
        quantised.graph.node.append(helper.make_node(operator, ["hm"], ["other"]))
        assert precision_of(quantised) == "int8", operator


def make_checkpoint(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


def make_external(path: Path) -> None:
    """Write a model without the second file that holds its weights."""
    onnx.save(convolution(weights=64), path, save_as_external_data=True, location="weights.bin")
    path.with_name("weights.bin").unlink()


IMPOSTORS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "html": lambda path: path.write_text("<!doctype html><html><body>Not found</body></html>"),
    "checkpoint": make_checkpoint,
    "folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
    "external data left behind": make_external,
}


@pytest.mark.parametrize("make", IMPOSTORS.values(), ids=IMPOSTORS)
def test_a_file_that_is_no_onnx_is_refused_by_name(make: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    make(path)
    with pytest.raises(HarnessError, match=r"foreign\.onnx: (the file is truncated or no|cannot read the) ONNX"):
        load_onnx_checked(path)


@given(length=st.integers(0, 10_000))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_onnx_is_refused(tmp_path: Path, length: int) -> None:
    content = convolution(weights=64).SerializeToString()
    path = tmp_path / "short.onnx"
    path.write_bytes(content[: min(length, len(content) - 1)])
    with pytest.raises(HarnessError, match=r"short\.onnx"):
        load_onnx_checked(path)


def test_a_sound_onnx_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sound.onnx"
    onnx.save(convolution(), path)
    assert load_onnx_checked(path) == onnx.shape_inference.infer_shapes(convolution())


def test_an_onnx_with_a_value_from_nowhere_is_refused(tmp_path: Path) -> None:
    model = convolution()
    model.graph.node[0].input[0] = "nowhere"
    path = tmp_path / "broken.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(HarnessError, match=r"broken\.onnx: not a valid ONNX model: .*nowhere"):
        load_onnx_checked(path)
