"""Emulated Ascend chips: what they compute and refuse, and how the suite speaks of them."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from conformance.support.small_model import SHA256, small_card, small_images
from conformance.support.small_model import tiny_network as network_with_dcn
from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import TinySetup
from harness.cards import load_model_card
from harness.cards.tolerances import load_tolerance
from harness.centernet.heads import check_contract, read_heads
from harness.checks.heads import compare_heads
from harness.devices.artifact import Exported
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.registry import create_device, device_names
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.export import export_ascend
from harness.types import Float32, Heads, Outputs

CHIPS = ("ascend310", "ascend310p", "ascend310b")
P = "ascend310p:emulated"
BAND = "sampling coordinates in fp16"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A network of one DCNv2."""
    path = tmp_path_factory.mktemp("ascend") / "model.onnx"
    return export_ascend(network_with_dcn(), small_card(), path, batch_size=None, weights_sha256=SHA256)


def heads_of(outputs: Outputs, count: int) -> Heads:
    return read_heads(small_card(), outputs, count)


def golden(images: Float32) -> Heads:
    device = TorchDevice()
    artifact = device.convert(Exported(small_card(), "module", module=network_with_dcn()), 1, "fp32")
    return heads_of(device.run(artifact, images), len(images))


@pytest.mark.parametrize("chip", CHIPS)
def test_chip_is_emulated_in_float16_where_nothing_is_said(exported: Exported, chip: str) -> None:
    assert f"{chip}:emulated" in device_names()
    device = create_device(f"{chip}:emulated")
    device.check()
    assert (device.card.execution, device.card.precisions[0]) == ("emulated", "fp16")
    assert device.card.reason_against("perf") == "an emulation on the host: its own time says nothing about the chip"
    artifact = device.convert(exported, 2, "fp16")
    check_contract(small_card(), artifact, 2)
    assert artifact.executed["between layers"] == "float16, saturating at 65504"
    assert "emulated" in artifact.executed["provider"]
    images = small_images(2)
    own, reference = heads_of(device.run(artifact, images), 2), golden(images)
    allowed = {head: load_tolerance("fp16").allowed(72, float(np.abs(v).max())) for head, v in reference.items()}
    assert all(comparison.problem is None for comparison in compare_heads(own, reference, allowed, "fp16"))
    for head, values in own.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, values.astype(np.float16).astype(np.float32))
        assert (values != reference[head]).mean() > 0.9


def test_sampling_coordinates_are_read_both_ways_and_each_says_which(exported: Exported) -> None:
    device, images = create_device(P), small_images(2)
    artifact = device.convert(exported, 1, "fp16")
    assert list(artifact.findings.readings) == [BAND]
    assert artifact.executed["sampling coordinates"] == "float32"
    assert artifact.findings.readings[BAND].executed["sampling coordinates"] == "float16"
    one, other = (heads_of(device.run(reading, images), 2) for reading in (artifact, artifact.findings.readings[BAND]))
    reference = golden(images)
    for head, values in one.items():
        coarse = other[head]
        assert (coarse != values).any()
        expected = reference[head]
        assert np.abs(coarse - expected).mean() > np.abs(values - expected).mean()
        assert np.abs(coarse - expected).max() < 0.05 * np.abs(expected).max()


def test_float32_is_the_graph_itself_and_nothing_is_left_open(exported: Exported) -> None:
    device, images = create_device(P), small_images(2)
    artifact = device.convert(exported, 1, "fp32")
    assert artifact.findings.readings == {}
    assert artifact.executed["between layers"] == "float32"
    found, expected = heads_of(device.run(artifact, images), 2), golden(images)
    for head, values in found.items():
        np.testing.assert_allclose(values, expected[head], rtol=0, atol=1e-5 * np.abs(expected[head]).max())


def test_onnx_runtime_runs_a_graph_for_atc_and_says_by_what(exported: Exported) -> None:
    device, images = OnnxRuntimeDevice(), small_images(2)
    given = Exported(exported.card, "standard", exported.module, exported.path)
    artifact = device.convert(given, 1, "fp32")
    assert artifact.executed["DeformableConv2D"] == "from standard operators"
    found, expected = heads_of(device.run(artifact, images), 2), golden(images)
    for head, values in found.items():
        np.testing.assert_allclose(values, expected[head], rtol=0, atol=1e-5 * np.abs(expected[head]).max())


def test_model_in_float16_is_refused_since_atc_rounds_itself(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 3, 64, 96]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "half", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "h.onnx")
    given = Exported(small_card(), "ascend", None, tmp_path / "h.onnx")
    with pytest.raises(HarnessError, match=r"the model computes in fp16, and ATC takes float32") as caught:
        create_device(P).convert(given, 1, "fp16")
    assert caught.value.file == str(tmp_path / "h.onnx")


def test_other_precisions_batch_sizes_and_dialects_are_refused(exported: Exported, tmp_path: Path) -> None:
    device = create_device(P)
    with pytest.raises(HarnessError, match=rf"'{P}' does not run int8"):
        device.convert(exported, 1, "int8")
    with pytest.raises(HarnessError, match="takes the dialect 'ascend', and this model is of 'standard'"):
        device.convert(Exported(exported.card, "standard", None, exported.path), 1, "fp16")
    static = onnx.load(exported.path)  # type: ignore[arg-type]
    for value in (*static.graph.input, *static.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(static, tmp_path / "m.onnx")
    with pytest.raises(HarnessError, match="batches of exactly 1, and 4 was asked for"):
        device.convert(Exported(exported.card, "ascend", None, tmp_path / "m.onnx"), 4, "fp16")


def with_deformable_layer(model: ModelProto) -> ModelProto:
    """In front of all others a deformable convolution that moves the image by a thousandth of a pixel."""
    name, entered = model.graph.input[0].name, "moved"
    for node in model.graph.node:
        node.input[:] = [entered if value == name else value for value in node.input]
    constants = {
        "moved/weight": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
        "moved/bias": np.zeros(3, np.float32),
        "moved/none": np.zeros(1, np.float32),
        "moved/offset": np.float32([0.001, 0.001, 1]).reshape(1, 3, 1, 1),
    }
    model.graph.initializer.extend(numpy_helper.from_array(values, key) for key, values in constants.items())
    taken = [name, "moved/weight", "moved/offsets", "moved/bias"]
    attributes = {"strides": [1, 1], "pads": [0, 0], "dilations": [1, 1], "groups": 1, "deformable_groups": 1}
    nodes = [
        helper.make_node("Mul", [name, "moved/none"], ["moved/zero"], name="zero"),
        helper.make_node("Add", ["moved/zero", "moved/offset"], ["moved/offsets"], name="offsets"),
        helper.make_node("DeformableConv2D", taken, [entered], name="move", **attributes),
    ]
    rest = list(model.graph.node)
    model.graph.ClearField("node")
    model.graph.node.extend([*nodes, *rest])
    return model


@pytest.fixture(scope="module")
def suite_of_ascend(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """With a model as ATC takes it, lest every run export one."""
    folder = tmp_path_factory.mktemp("ascend") / "tiny"
    shutil.copytree(tiny.root, folder, ignore=shutil.ignore_patterns("cache", "*.pickle", "*.lock"))
    own = TinySetup(folder)
    model = onnx.load(own.onnx)
    model.opset_import[0].version = 13  # of its operators, the same in all that is used here
    onnx.save(with_deformable_layer(model), own.onnx)
    with Suite(own) as suite:
        yield suite


def test_emulated_chip_conforms_and_every_figure_says_that_it_is_emulated(suite_of_ascend: Suite) -> None:
    ended = suite_of_ascend.run(f"--device={P}", "--batch-sizes=1,2", "--limit=2", *CHECKS)
    assert ended.status == 0, ended.output
    found = ended.run_of(P)
    assert (found.execution, found.precision, found.verdict) == ("emulated", "fp16", "conforms")
    for size in (1, 2):
        assert ended.outcomes(P, size)["heads"] == ended.outcomes(P, size)["detections"] == "passed"
    assert found.executed["between layers"] == "float16, saturating at 65504"
    figures = [line for line in ended.output.splitlines() if P in line and re.search(r"\d\.\d{4}", line)]
    assert len(figures) >= 3  # two batch sizes, and the band
    assert all("(emulated)" in line for line in figures)
    first, second = found.accuracy
    assert (list(first.readings), second.readings) == ([BAND], {})
    low, high = first.band
    assert f"AP {low:.4f} to {high:.4f} at batch size 1" in ended.output
    assert f"{first.readings[BAND]:.4f} with {BAND}" in ended.output
    assert found.perf == ()


def test_no_speed_is_claimed_for_an_emulated_chip(suite_of_ascend: Suite) -> None:
    """And a run that could compare nothing decides nothing."""
    options = ["--batch-sizes=1", "--limit=1", "-m", "perf", "conformance/device/test_perf.py"]
    ended = suite_of_ascend.run(f"--device={P}", *options)
    assert (ended.status, ended.run_of(P).verdict, ended.run_of(P).perf) == (1, "undecided", ())
    assert set(ended.outcomes(P, 1).values()) == {"not-applicable"}
    assert ended.stage(P, "perf", 1).detail == "an emulation on the host: its own time says nothing about the chip"


def test_graph_with_its_heads_exchanged_deviates(suite_of_ascend: Suite, tmp_path: Path) -> None:
    """Wh and reg are of one shape: only their values tell."""
    model = onnx.load(suite_of_ascend.tiny.onnx)
    names = {"wh": "reg", "reg": "wh"}
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
    onnx.save(model, tmp_path / "exchanged.onnx")
    options = ["--batch-sizes=1", "--limit=2", "conformance/device/test_heads.py"]
    ended = suite_of_ascend.run(f"--device={P}", f"--onnx={tmp_path / 'exchanged.onnx'}", *options)
    assert (ended.status, ended.run_of(P).verdict) == (1, "deviates")
    assert "head wh" in ended.output


@pytest.mark.parametrize("name", ["dla_34_ascend", "dla_34_ascend_builtin", "dla_34_ascend_fp32"])
def test_published_variants_have_cards_that_tell_them_apart(name: str) -> None:
    card = load_model_card(name)
    heads = dict(zip(card.output.names, card.output.heads, strict=True))
    assert (card.input.name, heads, card.batch_sizes[0]) == {
        "dla_34_ascend": ("actual_input", {"output1": "hm", "output2": "wh", "output3": "reg"}, 1),
        "dla_34_ascend_builtin": ("image", {"hm": "hm", "wh": "reg", "reg": "wh"}, 1),
        "dla_34_ascend_fp32": ("input", {"hm": "hm", "wh": "wh", "reg": "reg"}, 1),
    }[name]
    assert (card.input.channel_order, card.input.keep_res, card.output.hm) == ("BGR", False, "logits")
