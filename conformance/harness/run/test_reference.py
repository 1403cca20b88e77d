"""The reference: what heads may differ by below float32, and an ONNX that takes one batch size only."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from conformance.support.command_line import run
from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import TinySetup
from harness.cards.tolerances import load_tolerance
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.exchange.heads import write_heads
from harness.export import export_standard
from harness.run.reference import ROUNDED, Reference, with_parameters_as
from harness.run.subject import Subject, load_subject
from harness.types import Float32, Heads

IMAGES = small_images(1)


def subject(module: HeadedNetwork | None = None) -> Subject:
    return Subject(small_card(), module or tiny_network(), None, SHA256)


def heads_of(module: torch.nn.Module) -> Heads:
    with torch.inference_mode():
        found = module(torch.from_numpy(IMAGES))
    return {name: found[name].numpy() for name in ("hm", "wh", "reg")}


def rounded_heads(model: Subject, kind: torch.dtype) -> dict[str, Float32]:
    run = with_parameters_as(kind, model)
    assert run is not None
    return run(IMAGES)


def folded_by_hand() -> HeadedNetwork:
    """The only batch norm of the tiny network worked into its DCNv2, by the formula."""
    network = tiny_network()
    dcn, norm = network.stages[1], network.stages[2]
    assert isinstance(dcn, DCNv2)
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    dcn.weight.data = dcn.weight * factor[:, None, None, None]
    dcn.bias.data = (dcn.bias - norm.running_mean) * factor + norm.bias
    network.stages[2] = torch.nn.Identity()
    return network


def rounded_by_numpy(values: torch.Tensor, precision: str) -> torch.Tensor:
    """To the nearest of fewer bits, ties to even; bfloat16 is the upper half of float32."""
    array = values.numpy()
    if precision == "fp16":
        return torch.from_numpy(array.astype(np.float16).astype(np.float32))
    bits = array.view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("precision", ROUNDED)
def test_parameters_are_rounded_with_batch_norm_folded_in(precision: str) -> None:
    network = folded_by_hand()
    for parameter in network.parameters():
        parameter.data = rounded_by_numpy(parameter.data, precision)
    found = rounded_heads(subject(), ROUNDED[precision])
    step = load_tolerance(precision).unit_roundoff or 0.0  # a value beside the middle may fall on the other side
    for name, expected in heads_of(network).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=step * float(np.abs(expected).max()))


def test_an_onnx_without_weights_has_its_constants_rounded(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export_standard(tiny_network(), small_card(), path, batch_size=1, weights_sha256=SHA256)
    alone = Subject(small_card(), None, path, SHA256)
    expected = rounded_heads(subject(), torch.float16)
    found, kept = rounded_heads(alone, torch.float16), rounded_heads(alone, torch.float32)
    for name, values in expected.items():
        size = float(np.abs(values).max())
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4 * size)
        assert float(np.abs(found[name] - kept[name]).max()) > 2e-4 * size
    before = [numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    assert all(np.isfinite(values).all() for values in before)  # the file is as it was


def limits(model: Subject, precision: str) -> dict[str, float]:
    assert model.module is not None
    return Reference(model, precision).allowed(IMAGES, heads_of(model.module), model.second_opinion(IMAGES))


def largest_scale(model: Subject, draws: list[dict[str, Float32]]) -> dict[str, float]:
    """Of each head: its size, or float32's own error in units of its round-off where that is larger."""
    exact, unit = model.second_opinion(IMAGES), 2**-24 * math.sqrt(model.accumulation_length)
    return {
        name: max(float(np.abs(head).max()), *(float(np.abs(draw[name] - head).max()) / unit for draw in draws))
        for name, head in exact.items()
    }


def test_float32_is_allowed_its_own_error_only() -> None:
    model, tolerance = subject(), load_tolerance("fp32")
    scales = largest_scale(model, [heads_of(tiny_network())])
    for name, limit in limits(model, "fp32").items():
        assert limit == pytest.approx(tolerance.allowed(model.accumulation_length, scales[name]))


@pytest.mark.parametrize("precision", ROUNDED)
def test_rounded_parameters_come_on_top(precision: str) -> None:
    model, tolerance = subject(), load_tolerance(precision)
    golden = heads_of(tiny_network())
    scales = largest_scale(model, [golden, rounded_heads(model, torch.float32)])
    rounded = rounded_heads(model, ROUNDED[precision])
    for name, limit in limits(model, precision).items():
        moved = float(np.abs(rounded[name] - golden[name]).max())
        assert moved > 0
        assert limit == pytest.approx(tolerance.allowed(model.accumulation_length, scales[name]) + moved)


def test_parameters_that_overflow_allow_nothing() -> None:
    network = tiny_network()
    plain = limits(subject(network), "fp16")
    network.stages[0].weight.data = network.stages[0].weight * 1e6
    network.stages[1].weight.data = network.stages[1].weight * 1e-6
    assert with_parameters_as(torch.float16, subject(network)) is None
    found = limits(subject(network), "fp16")
    assert all(0 < found[name] <= 1.1 * limit for name, limit in plain.items())


def test_onnx_of_a_static_batch_size_is_its_own_reference(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    """Without weights it is fed with as many images as it takes, whatever number is at hand."""
    path, card = tmp_path / "four.onnx", tiny.model_card
    module = load_subject(card, tiny.weights, None).module
    assert module is not None
    export_standard(module, card, path, batch_size=4, weights_sha256=SHA256)
    options = [option for option in suite.options if not option.startswith("--weights")]
    asked = (f"--onnx={path}", "--device=right,swapped", "--batch-sizes=4", "--precision=fp32", *CHECKS)
    ended = suite.run(*asked, options=options)
    assert [found.verdict for found in ended.result.runs] == ["conforms", "deviates"], ended.output
    assert [answer.faults for answer in ended.run_of("swapped").diagnosis] == [("wh-axes-swapped",)]
    device = TorchDevice()
    artifact = device.convert(Exported(card, "module", module=module), 1, "fp32")
    write_heads(device, artifact, card, tiny.dataset, 1, tmp_path / "heads", sha256="")
    files = ("--model", tiny.card, "--coco", tiny.coco, "--onnx", path, "--heads", tmp_path / "heads")
    status, out, err = run("compare", *files, "--precision", "fp16")
    assert (status, "verdict: conforms, 11 images" in out) == (0, True), out + err
