"""Below float32 the host's own devices compute what they say: int8 with heads and DCNv2 in float, fp16, bf16."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from conformance.support.full_disk import file_size_limit
from conformance.support.small_model import SHA256, small_card, small_images, small_network, tiny_network
from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import TinySetup
from harness.centernet.ops import DCNv2
from harness.convert.onnxruntime import _executing, float_nodes, quantise
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset
from harness.devices.artifact import Artifact, Exported
from harness.devices.link import InProcess
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.torch import TorchDevice
from harness.emulation.rounding import to_fp16
from harness.errors import HarnessError
from harness.export import export_decomposed, export_standard
from harness.types import Outputs

CARD = small_card(image={"scale": 1 / 255, "mean": (0.4,) * 3, "std": (0.3,) * 3})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return export_standard(tiny_network(), CARD, path, batch_size=None, weights_sha256=SHA256)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnxruntime-int8"


def with_images(exported: Exported, dataset: Dataset, count: int = 3) -> Exported:
    return Exported(CARD, "standard", None, exported.path, Calibration(CARD, dataset, count))


def outputs(exported: Exported, precision: str) -> Outputs:
    device = OnnxRuntimeDevice()
    return device.run(device.convert(exported, 2, precision), small_images(2) / 2)


def module_of(artifact: Artifact) -> nn.Module:
    return cast(nn.Module, cast(InProcess, artifact.payload).handle.module)


def moved(one: Outputs, other: Outputs) -> dict[str, float]:
    """Largest difference of each head, in shares of its magnitude."""
    return {name: float(np.abs(one[name] - other[name]).max() / np.abs(other[name]).max()) for name in other}


def test_int8_executes_in_int8_and_says_what_does_not(tiny: TinySetup, exported: Exported, cache: Path) -> None:
    artifact = OnnxRuntimeDevice().convert(with_images(exported, tiny.dataset), 2, "int8")
    assert artifact.batch_size is None
    assert artifact.executed["precision"] == "int8"
    assert artifact.executed["int8 operators"] == "1 x QLinearConv"  # the others are the heads' and the DCNv2's
    graph = onnx.load(next(cache.glob("*/model.onnx"))).graph
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    weights = [node.input[1] in quantised for node in graph.node if "Conv" in node.op_type]
    assert weights == [True, *[False] * 8]


def test_int8_moves_the_heads_by_little_and_more_than_nothing(tiny: TinySetup, exported: Exported, cache: Path) -> None:
    found = moved(outputs(with_images(exported, tiny.dataset, 8), "int8"), outputs(exported, "fp32"))
    assert all(1e-4 < share < 0.2 for share in found.values()), found


def test_ranges_are_those_of_the_images(tiny: TinySetup, exported: Exported, cache: Path) -> None:
    few = outputs(with_images(exported, tiny.dataset, 2), "int8")
    more = outputs(with_images(exported, tiny.dataset, 9), "int8")
    assert max(moved(few, more).values()) > 0


def test_int8_is_made_once(tiny: TinySetup, exported: Exported, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = with_images(exported, tiny.dataset)
    first = outputs(order, "int8")
    monkeypatch.setattr("harness.convert.onnxruntime.quantize_static", None)
    again = outputs(order, "int8")
    assert moved(first, again) == dict.fromkeys(first, 0.0)
    assert len([path for path in cache.iterdir() if path.suffix != ".lock"]) == 1


@pytest.mark.parametrize("limit", [1000, 20_000])
def test_full_disk_during_quantisation_is_an_error_that_names_the_cache(
    tiny: TinySetup, exported: Exported, cache: Path, limit: int
) -> None:
    with pytest.raises(HarnessError) as caught, file_size_limit(limit):
        OnnxRuntimeDevice().convert(with_images(exported, tiny.dataset), 2, "int8")
    assert (caught.value.file or "").startswith(str(cache))
    assert "the disk has space" in (caught.value.remedy or "")
    assert list(cache.iterdir()) == []


def test_graph_that_is_executed_and_cannot_be_written_is_an_error_of_the_disk(
    tiny: TinySetup, exported: Exported, cache: Path
) -> None:
    model, _ = quantise(with_images(exported, tiny.dataset), 2)
    with pytest.raises(HarnessError, match="cannot write the graph") as caught, file_size_limit(1000):
        _executing(model)
    assert caught.value.file == str(cache)


def test_int8_without_images_is_refused(exported: Exported, cache: Path) -> None:
    with pytest.raises(HarnessError, match="int8 needs images") as caught:
        outputs(exported, "int8")
    assert caught.value.field == "--calibration-images"
    assert not cache.exists()


def test_model_quantised_elsewhere_runs_as_it_is(
    tiny: TinySetup, exported: Exported, cache: Path, tmp_path: Path
) -> None:
    own = outputs(with_images(exported, tiny.dataset), "int8")
    theirs = next(cache.glob("*/model.onnx")).rename(tmp_path / "theirs.onnx")
    foreign = Exported(CARD, "standard", None, theirs)
    assert moved(outputs(foreign, "int8"), own) == dict.fromkeys(own, 0.0)
    assert "int8 operators" not in OnnxRuntimeDevice().convert(foreign, 1, "int8").executed
    with pytest.raises(HarnessError, match="computes in int8, and fp32 was asked for"):
        outputs(foreign, "fp32")


def test_model_that_cannot_be_quantised_is_an_error_and_leaves_nothing(
    tiny: TinySetup, exported: Exported, cache: Path, tmp_path: Path
) -> None:
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 64, 96]) for name in ("input", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["out"])], "g", value[:1], value[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    order = with_images(Exported(CARD, "standard", None, path), tiny.dataset)
    with pytest.raises(HarnessError, match=r"nothing of the quantised model in int8|cannot quantise"):
        OnnxRuntimeDevice().convert(order, 1, "int8")
    assert [entry for entry in cache.iterdir() if entry.suffix != ".lock"] == []


def test_heads_stay_in_float_where_they_are_one_output(tmp_path: Path) -> None:
    card = small_card(output={"names": ("all",), "concatenated": True})
    path = tmp_path / "one.onnx"
    export_standard(tiny_network(), card, path, batch_size=1, weights_sha256=SHA256)
    graph = onnx.load(path).graph
    kept = set(float_nodes(graph))
    assert [node.name not in kept for node in graph.node if node.op_type == "Conv"] == [True, *[False] * 7]


def test_decomposed_dcn_stays_in_float_with_what_steers_it(tmp_path: Path) -> None:
    path = tmp_path / "decomposed.onnx"
    export_decomposed(tiny_network(), CARD, path, batch_size=1, weights_sha256=SHA256)
    graph = onnx.load(path).graph
    kept = set(float_nodes(graph))
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert [node.name not in kept for node in convolutions] == [True, *[False] * 8]
    assert all(node.name in kept for node in graph.node if node.op_type in ("GridSample", "Mul"))


def test_fp16_stores_float16_and_says_that_it_computes_in_float32(exported: Exported) -> None:
    device = OnnxRuntimeDevice()
    artifact = device.convert(exported, 2, "fp16")
    assert artifact.executed["precision"] == "fp16 between the layers, arithmetic in fp32"
    half, single = device.run(artifact, small_images(2) / 2), outputs(exported, "fp32")
    for name, values in half.items():
        np.testing.assert_array_equal(values, to_fp16(values), err_msg=name)
    assert all(1e-5 < share < 1e-2 for share in moved(half, single).values())


def test_bf16_convolves_in_bfloat16_and_deforms_in_float32() -> None:
    device = TorchDevice()
    artifact = device.convert(Exported(CARD, "module", tiny_network()), 1, "bf16")
    assert artifact.executed["precision"] == "bf16 by autocast, 1 DCNv2 in fp32"
    names = {part: name for name, part in module_of(artifact).named_modules()}
    seen: dict[str, torch.dtype] = {}

    def note(part: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        seen[names[part]] = result.dtype

    for part in names:
        if isinstance(part, (nn.Conv2d, DCNv2)):
            part.register_forward_hook(note)
    heads = device.run(artifact, small_images(1))
    single = {name for name, dtype in seen.items() if dtype == torch.float32}
    assert {name.partition("stages.1.part")[2] for name in single} == {"", ".conv_offset_mask"}
    assert set(seen.values()) == {torch.float32, torch.bfloat16}
    for values in heads.values():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(torch.from_numpy(values).bfloat16().float().numpy(), values)


@pytest.mark.parametrize("arch", ["res_18", "resdcn_18", "dla_34"])
def test_bf16_folds_every_batch_norm_behind_a_convolution_and_computes_the_same_network(arch: str) -> None:
    card, network = small_card(arch), small_network(arch)
    device = TorchDevice()
    artifact = device.convert(Exported(card, "module", network), 1, "bf16")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module_of(artifact).modules())
    golden = device.run(device.convert(Exported(card, "module", network), 1, "fp32"), small_images(1))
    assert all(share < 0.3 for share in moved(device.run(artifact, small_images(1)), golden).values())


def test_golden_heads_are_float32_whatever_the_reference_is_asked_for(suite: Suite) -> None:
    ended = suite.run("--device=torch", "--precision=bf16", "--batch-sizes=1", *CHECKS)
    heads = ended.stage("torch", "heads", 1)
    assert heads.outcome == "passed"
    assert (heads.measured or 0) > 1e-3
    assert ended.stage("torch", "accuracy", 1).outcome == "passed"
    assert ended.run_of("torch").executed["precision"] == "bf16 by autocast"


@pytest.mark.parametrize("given", ["weights", "ONNX alone"])
def test_suite_runs_int8_and_shows_what_it_does_to_the_heads(suite: Suite, given: str) -> None:
    options = [option for option in suite.options if given == "weights" or not option.startswith("--weights")]
    ended = suite.run("--device=onnxruntime", "--precision=int8", "--calibration-images=4", *CHECKS, options=options)
    run = ended.run_of("onnxruntime")
    assert run.verdict in ("conforms", "undecided")  # of 11 images
    assert run.executed["precision"] == "int8"
    assert "QLinearConv" in run.executed["int8 operators"]
    for size in (1, 4):
        heads = ended.stage("onnxruntime", "heads", size)
        assert heads.outcome == "not-applicable"
        assert (heads.measured or 0) > 1e-3
    assert ended.stage("onnxruntime", "batch", 4).outcome == "passed"
