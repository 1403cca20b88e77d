"""Emulated float16 is the arithmetic of a float16 chip: values between layers are rounded and saturate."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import deform_conv2d

from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from conformance.support.written_onnx import copied, run_onnx
from harness.centernet.networks import DETECTION_HEADS, HeadedNetwork
from harness.emulation.rounding import rounded_to_fp16, to_fp16
from harness.errors import HarnessError
from harness.export import export_standard
from harness.export.network import CardNetwork
from harness.types import Float32

SIGN_AND_REST = np.arange(2**16, dtype=np.uint16).view(np.float16)
EVERY_FP16 = SIGN_AND_REST[np.isfinite(SIGN_AND_REST)].astype(np.float32)
ROUNDING = {"Clip", "Cast"}


class EveryOperatorRounds(TorchDispatchMode):
    """PyTorch in float32 with the result of every single operator rounded to float16."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            # Of an operator in place, ReLU, which has nothing to round, the caller does not go on with this.
            return result.clamp(-65504, 65504).half().float()
        return result


class Residual(HeadedNetwork):
    """A convolution with a branch that is added again, and the heads."""

    def __init__(self) -> None:
        super().__init__(DETECTION_HEADS, 8, 4)
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        return stem + self.branch(stem)


def by_torch(network: HeadedNetwork, images: Float32) -> list[Float32]:
    """Compute heads of a network in emulated float16, without ONNX."""
    module = CardNetwork(network, small_card())
    for parameter in module.parameters():
        parameter.data = parameter.data.half().float()
    with torch.inference_mode(), EveryOperatorRounds():
        return [output.numpy() for output in module(torch.from_numpy(images).half().float())]


def exported(network: HeadedNetwork, folder: Any) -> ModelProto:  # noqa: ANN401 - tmp_path or its factory's
    path = folder / "model.onnx"
    export_standard(network, small_card(), path, batch_size=None, weights_sha256=SHA256)
    return onnx.load(path)


def run(model: ModelProto, images: Float32, names: list[str] | None = None) -> dict[str, NDArray[Any]]:
    """Compute the outputs, or the tensors `names`, by ONNX Runtime with its optimisations off."""
    wanted = copied(model)
    kept = [output.name for output in wanted.graph.output]
    wanted.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names or () if name not in kept)
    found = run_onnx(wanted, images, optimised=False)
    return {name: found[name] for name in names or kept}


def by_others(node: NodeProto, inputs: dict[str, NDArray[Any]]) -> Float32:
    """Compute the first output of one operator by the ONNX project's own NumPy implementation in float32.

    Its deformable convolution takes a minute, so torchvision's replaces it.
    """
    if node.op_type == "DeformConv":
        x, weight, offset, bias, mask = (torch.from_numpy(inputs[name].copy()) for name in node.input)
        convolved: Float32 = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask).numpy()
        return convolved
    feeds = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), None)
        for name, values in inputs.items()
    ]
    output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "layer", feeds, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    result: Float32 = ReferenceEvaluator(model).run(None, inputs)[0]
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A network of one DCNv2."""
    return exported(tiny_network(), tmp_path_factory.mktemp("tiny"))


def one_node(kind: str, *inputs: str, **attributes: Any) -> ModelProto:  # noqa: ANN401
    node = helper.make_node(kind, inputs, ["y"], **attributes)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    graph = helper.make_graph([node], "one", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_every_tensor_between_layers_holds_only_float16_values(model: ModelProto) -> None:
    rounded = rounded_to_fp16(model)
    onnx.checker.check_model(rounded, full_check=True)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
    layers = [node for node in rounded.graph.node if node.op_type not in ROUNDING]
    assert len(layers) == len(model.graph.node)
    between = {name for node in layers for name in node.input if name and name not in weights}
    found = run(rounded, small_images(2), sorted(between | {output.name for output in rounded.graph.output}))
    assert len(found) >= len(layers)
    for name, values in {**found, **weights}.items():
        if values.dtype == np.float32 and name not in ("fp16/lowest", "fp16/highest"):
            np.testing.assert_array_equal(values.astype(np.float16).astype(np.float32), values, err_msg=name)


def test_heads_differ_from_those_of_float32_by_what_float16_rounds(model: ModelProto) -> None:
    exact, rounded = (run(form, small_images(2)) for form in (model, rounded_to_fp16(model)))
    for head, values in exact.items():
        difference = np.abs(rounded[head] - values).max() / np.abs(values).max()
        assert 2**-13 < difference < 2**-7, head


def test_every_layer_is_the_layer_of_others_with_its_result_rounded(model: ModelProto) -> None:
    """Libraries sum in different orders, which matters for the rare sum between two float16 values."""
    rounded = rounded_to_fp16(model)
    images = small_images(1)
    layers = model.graph.node
    found = run(rounded, images, [name for node in layers for name in node.output])
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer} | found
    values["input"] = to_fp16(images)
    apart = 0
    for node in layers:
        inputs = {name: values[name] for name in node.input if name}
        expected = to_fp16(by_others(node, inputs))
        got = found[node.output[0]]
        ulp = np.spacing(np.maximum(np.abs(expected), np.abs(got)).astype(np.float16)).astype(np.float32)
        assert (np.abs(got - expected) <= ulp).all(), node.name
        apart += int((got != expected).sum())
    assert apart < 0.001 * sum(found[node.output[0]].size for node in layers)


def test_where_sums_are_exact_the_emulation_in_torch_is_met_to_the_bit(tmp_path: Any) -> None:  # noqa: ANN401
    """Weights have few bits, so that sums are exact in any order and only the layers round."""
    torch.manual_seed(0)
    network = Residual().eval().requires_grad_(False)
    for tensor in network.parameters():
        tensor.copy_((tensor * 16).round() / 16)
    images = (small_images(2) * 8).round() / 8
    rounded = run(rounded_to_fp16(exported(network, tmp_path)), images)
    for (head, values), expected in zip(rounded.items(), by_torch(network, images), strict=True):
        np.testing.assert_array_equal(values, expected, err_msg=head)
        assert len(np.unique(values)) > 100


@given(arrays(np.float32, 64, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@settings(deadline=None, max_examples=200)
def test_the_nearest_float16_is_taken_and_the_even_one_of_two(values: Float32) -> None:
    found = to_fp16(values)
    place = np.clip(np.searchsorted(np.sort(EVERY_FP16), values.clip(-65504, 65504)), 1, len(EVERY_FP16) - 1)
    ordered = np.sort(EVERY_FP16)
    below, above = (np.abs(values.clip(-65504, 65504).astype(np.float64) - ordered[place - i]) for i in (1, 0))
    distance = np.abs(values.clip(-65504, 65504).astype(np.float64) - found)
    np.testing.assert_array_equal(distance, np.minimum(below, above))
    tied = (below == above) & (distance > 0)
    assert not (found[tied].astype(np.float16).view(np.uint16) & 1).any()


def test_onnx_runtime_rounds_as_numpy_does() -> None:
    halfway = (EVERY_FP16[:-1] + EVERY_FP16[1:]) / 2
    values = np.concatenate([EVERY_FP16, halfway, np.float32([65519.9, 65520, 1e38, -1e38, np.inf, -np.inf, np.nan])])
    found = run(rounded_to_fp16(one_node("Relu", "x")), values.astype(np.float32))["y"]
    np.testing.assert_array_equal(found, np.maximum(to_fp16(values.astype(np.float32)), 0))


@pytest.mark.parametrize(("given_", "stored"), [(300, 65504), (250, 62496), (1e30, 65504), (np.nan, np.nan), (2e-5, 0)])
def test_overflow_saturates_and_nan_does_not_hide(given_: float, stored: float) -> None:
    found = run(rounded_to_fp16(one_node("Mul", "x", "x")), np.float32([given_]))["y"]
    np.testing.assert_array_equal(found, np.float32([stored]))


def test_the_model_itself_stays_as_it_was(model: ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    rounded_to_fp16(model)
    assert model.SerializeToString(deterministic=True) == before


def test_inputs_and_outputs_keep_name_order_and_type(model: ModelProto) -> None:
    rounded = rounded_to_fp16(model)
    assert list(rounded.graph.input) == list(model.graph.input)
    assert list(rounded.graph.output) == list(model.graph.output)


def test_what_cannot_be_rounded_is_refused() -> None:
    old = one_node("Relu", "x")
    old.opset_import[0].version = 10
    with pytest.raises(HarnessError, match="from opset 11 on, and the model is of opset 10"):
        rounded_to_fp16(old)
    unknown = one_node("Mystery", "x", domain="somebody")
    unknown.opset_import.append(helper.make_opsetid("somebody", 1))
    unknown.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    unknown.graph.output[0].name = "z"
    with pytest.raises(HarnessError, match="the type of 'y', an output of Mystery, is not known"):
        rounded_to_fp16(unknown)
