"""Devices: executing what they say, refusing what they cannot do."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from conformance.support.small_model import SHA256, SIDES, small_card, small_images, tiny_network
from harness.cards import ModelCard
from harness.centernet.heads import check_contract, input_spec, output_specs, read_heads
from harness.devices.artifact import Artifact, Exported, TensorSpec
from harness.devices.link import InProcess
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.runners import onnxruntime as runner
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.export import export_standard

CARD = small_card()


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    return export_standard(tiny_network(), CARD, path, batch_size=None, weights_sha256=SHA256)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("static") / "model.onnx"
    return export_standard(tiny_network(), CARD, path, batch_size=4, weights_sha256=SHA256)


def module(card: ModelCard = CARD) -> Exported:
    return Exported(card, "module", tiny_network())


def foreign(path: Path, dtype: int = TensorProto.FLOAT, operator: str = "Relu", domain: str = "") -> Exported:
    """An ONNX of one operator, from elsewhere."""
    values = [helper.make_tensor_value_info(name, dtype, [1, 3, 4, 4]) for name in ("input", "out")]
    node = helper.make_node(operator, ["input"], ["out"], domain=domain)
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 19), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return Exported(CARD, "standard", None, path)


def test_both_devices_give_the_heads_of_the_network(dynamic: Exported) -> None:
    images = small_images(3)
    with torch.inference_mode():
        expected = tiny_network()(torch.from_numpy(images))
    for device, exported, allowed in ((TorchDevice(), module(), 0.0), (OnnxRuntimeDevice(), dynamic, 1e-4)):
        outputs = device.run(device.convert(exported, 3, "fp32"), images)
        assert list(outputs) == ["hm", "wh", "reg"]
        for head, values in outputs.items():
            scale = float(expected[head].abs().max())
            assert np.abs(values - expected[head].numpy()).max() <= allowed * scale, (device.card.name, head)


def test_torch_applies_the_form_of_the_card() -> None:
    image = {"layout": "NHWC", "dtype": "uint8"}
    output = {"names": ("all",), "heads": ("wh", "hm", "reg"), "concatenated": True, "hm": "probability"}
    card = small_card(image=image, output=output)
    pixels = np.random.default_rng(0).integers(0, 4, (2, *SIDES, 3), np.uint8)
    device = TorchDevice()
    artifact = device.convert(module(card), 2, "fp32")
    heads = read_heads(card, device.run(artifact, pixels), 2)
    check_contract(card, artifact, 2)
    with torch.inference_mode():
        expected = tiny_network()(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)))
    np.testing.assert_allclose(heads["hm"], torch.sigmoid(expected["hm"]).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(heads["wh"], expected["wh"].numpy(), rtol=0, atol=1e-4)


def test_torch_takes_any_size_and_read_only_images() -> None:
    device = TorchDevice()
    artifact = device.convert(module(), 1, "fp32")
    images = np.zeros((2, 3, 64, 160), np.float32)
    images.flags.writeable = False
    assert device.run(artifact, images)["wh"].shape == (2, 2, 16, 40)


def test_torch_runs_a_copy_in_evaluation_mode() -> None:
    network, device = tiny_network().train(), TorchDevice()
    artifact = device.convert(Exported(CARD, "module", network), 1, "fp32")
    before = device.run(artifact, small_images(1))
    torch.nn.init.zeros_(next(network.parameters()))
    assert network.training
    np.testing.assert_array_equal(device.run(artifact, small_images(1))["hm"], before["hm"])


def test_onnxruntime_hands_arrays_through_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    images, value = np.zeros((1, 3, 4, 4), np.float32), np.zeros(1, np.float32)
    fed: list[Any] = []

    def session_run(names: object, feed: dict[str, NDArray[Any]], options: object) -> list[NDArray[Any]]:
        fed.append(feed["pixels"])
        return [value]

    spec = TensorSpec("pixels", (1, 3, 4, 4), "float32")
    session = SimpleNamespace(run=session_run, get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(runner, "load", lambda spec: runner.Loaded(session, "pixels", ("hm",)))
    artifact = Artifact(InProcess(runner, {}), (spec,), (replace(spec, name="hm"),), 1)
    outputs = OnnxRuntimeDevice().run(artifact, images)
    assert fed[0] is images
    assert outputs["hm"] is value


def test_an_artifact_says_what_it_executes(static: Exported, dynamic: Exported) -> None:
    device = OnnxRuntimeDevice()
    artifact = device.convert(static, 4, "fp32")
    assert artifact.batch_size == 4
    assert artifact.inputs == (input_spec(CARD, 4),)
    assert artifact.outputs == output_specs(CARD, 4)
    assert device.convert(dynamic, 7, "fp32").outputs == output_specs(CARD, None)
    stated = {"provider": "CPUExecutionProvider", "precision": "fp32", "onnxruntime": ort.__version__}
    assert artifact.executed.items() >= stated.items()
    executed = TorchDevice().convert(module(), 1, "fp32").executed
    assert executed.items() >= {"precision": "fp32", "threads": str(torch.get_num_threads())}.items()


def test_a_static_model_says_which_batch_it_takes(static: Exported) -> None:
    with pytest.raises(HarnessError, match=r"batches of exactly 4, and 2 was asked(.|\n)*--batch-sizes 4"):
        OnnxRuntimeDevice().convert(static, 2, "fp32")


def test_a_precision_that_the_device_does_not_run_is_refused(dynamic: Exported) -> None:
    for device, exported, precision in ((TorchDevice(), module(), "int8"), (OnnxRuntimeDevice(), dynamic, "bf16")):
        with pytest.raises(HarnessError, match=rf"'{device.card.name}' does not run {precision}\n.*use fp32 or "):
            device.convert(exported, 1, precision)


def test_a_model_in_another_dialect_is_refused(dynamic: Exported) -> None:
    with pytest.raises(HarnessError, match="takes the dialect 'standard'"):
        OnnxRuntimeDevice().convert(module(), 1, "fp32")
    with pytest.raises(HarnessError, match="takes the dialect 'module'"):
        TorchDevice().convert(dynamic, 1, "fp32")


def test_weights_of_another_precision_are_not_taken_for_fp32(tmp_path: Path) -> None:
    double = Exported(CARD, "module", tiny_network().double())
    with pytest.raises(HarnessError, match=r"torch\.float64, and fp32 was asked"):
        TorchDevice().convert(double, 1, "fp32")
    half = foreign(tmp_path / "half.onnx", TensorProto.FLOAT16)
    with pytest.raises(HarnessError, match=r"half\.onnx.*computes in fp16, and fp32 was asked"):
        OnnxRuntimeDevice().convert(half, 1, "fp32")


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    exported = foreign(tmp_path / "custom.onnx", operator="Dream", domain="vendor")
    with pytest.raises(HarnessError, match=r"custom\.onnx: ONNX Runtime cannot run .*Dream"):
        OnnxRuntimeDevice().convert(exported, 1, "fp32")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_to_the_cpu_is_an_error(dynamic: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]  # as with onnxruntime-gpu, and without CUDA
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)
    with pytest.raises(HarnessError, match="CUDAExecutionProvider"):
        OnnxRuntimeDevice().convert(dynamic, 1, "fp32")
    fallen = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: fallen)
    with pytest.raises(HarnessError, match=r"CUDAExecutionProvider was asked for, .*fell back to CPU"):
        OnnxRuntimeDevice().convert(dynamic, 1, "fp32")


def test_half_an_installation_of_onnxruntime_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    OnnxRuntimeDevice().check()
    monkeypatch.delattr(ort, "InferenceSession")
    with pytest.raises(HarnessError, match="installed in part"):
        OnnxRuntimeDevice().check()
