"""The dialects of the toolchains: each computes what the network computes, in the form that old compilers read."""

from __future__ import annotations

import warnings
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import harness
from conformance.support.small_model import SHA256, SIDES, small_card, small_images, small_network, tiny_network
from conformance.support.written_onnx import assert_names_no_path, run_onnx
from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.devices.artifact import Exported
from harness.errors import HarnessError
from harness.export import DIALECTS, export_decomposed
from harness.export.check import check_export
from harness.export.network import CardNetwork

pytestmark = pytest.mark.export

ALLOWED = 1e-4
"""Of each output's largest magnitude."""
OF_SHAPES = {"Shape", "Size", "Range", "ConstantOfShape", "NonZero", "If", "Loop"}
"""Operators that are left where a shape was not known."""
CARDS = {
    "plain": small_card(),
    "concatenated": small_card(
        output={"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True, "hm": "probability"}
    ),
    "nhwc": small_card(image={"name": "pixels", "layout": "NHWC", "dtype": "uint8"}),
}

Arrays = dict[str, NDArray[Any]]


def export(dialect: str, path: Path, *, card: ModelCard = CARDS["plain"], size: int = 1) -> Exported:
    """A network of one DCNv2."""
    return DIALECTS[dialect][0](tiny_network(), card, path, batch_size=size, weights_sha256=SHA256)


def run_torchscript(path: Path, card: ModelCard, images: NDArray[Any]) -> Arrays:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        return dict(
            zip(card.output.names, (tensor.numpy() for tensor in module(torch.from_numpy(images))), strict=True)
        )


def golden(network: HeadedNetwork, card: ModelCard, images: NDArray[Any]) -> Arrays:
    """What the network itself computes, its DCNs by torchvision."""
    with torch.inference_mode():
        outputs = CardNetwork(network, card)(torch.from_numpy(images))
    return {name: tensor.numpy() for name, tensor in zip(card.output.names, outputs, strict=True)}


def images_for(card: ModelCard, count: int) -> NDArray[Any]:
    if card.input.dtype == "uint8":  # small pixels, lest everything saturates
        return np.random.default_rng(0).integers(0, 4, (count, *SIDES, 3), np.uint8)
    return small_images(count)


def assert_equal(found: Arrays, expected: Arrays) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].shape == values.shape, name
        difference = float(np.abs(found[name] - values).max()) / float(np.abs(values).max())
        assert difference <= ALLOWED, f"{name}: off by {difference:.2e}"


@pytest.fixture(scope="module")
def decomposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet with three DCNv2."""
    path = tmp_path_factory.mktemp("decomposed") / "model.onnx"
    card = small_card("resdcn_18")
    export_decomposed(small_network("resdcn_18"), card, path, batch_size=1, weights_sha256=SHA256)
    return path


def test_decomposed_heads_equal_those_of_the_network(decomposed: Path) -> None:
    card, network = small_card("resdcn_18"), small_network("resdcn_18")
    for seed in range(2):
        images = small_images(2)[seed : seed + 1]
        assert_equal(run_onnx(decomposed, images), golden(network, card, images))


@pytest.mark.parametrize("form", CARDS)
def test_decomposed_batches_have_the_form_of_the_card(tmp_path: Path, form: str) -> None:
    card = CARDS[form]
    path = tmp_path / "model.onnx"
    export("decomposed", path, card=card, size=2)
    images = images_for(card, 2)
    assert_equal(run_onnx(path, images), golden(tiny_network(), card, images))


def test_decomposed_has_one_bilinear_sampler_for_each_dcn_and_no_deformable_operator(decomposed: Path) -> None:
    nodes = onnx.load(decomposed).graph.node
    samplers = [node for node in nodes if node.op_type == "GridSample"]
    assert len(samplers) == sum(isinstance(module, DCNv2) for module in small_network("resdcn_18").modules()) == 3
    for sampler in samplers:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in sampler.attribute}
        assert attributes.get("mode") == b"bilinear"
    assert "DeformConv" not in {node.op_type for node in nodes}
    assert {node.domain for node in nodes} == {""}


def test_decomposed_is_of_a_version_that_onnx_1_14_reads(decomposed: Path) -> None:
    model = onnx.load(decomposed)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    onnx.checker.check_model(model, full_check=True)


def test_decomposed_leaves_no_shape_open_and_nothing_to_compute_from_constants(decomposed: Path) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(decomposed), strict_mode=True).graph
    tensors = (*graph.input, *graph.output, *graph.value_info)
    assert all(side.dim_value > 0 for tensor in tensors for side in tensor.type.tensor_type.shape.dim)
    operators = Counter(node.op_type for node in graph.node)
    assert not OF_SHAPES & operators.keys()
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    foldable = [node.name for node in graph.node if node.input and constant.issuperset(node.input)]
    assert foldable == []


def test_no_path_of_the_exporting_machine_is_in_a_decomposed_file(decomposed: Path) -> None:
    assert_names_no_path(onnx.load(decomposed))


def test_decomposed_without_a_batch_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="static shapes") as caught:
        export_decomposed(tiny_network(), small_card(), tmp_path / "m.onnx", batch_size=None, weights_sha256=SHA256)
    assert caught.value.field == "--batch-size"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dialect", ["decomposed", "torchscript"])
def test_exporting_leaves_the_network_as_it_was(tmp_path: Path, dialect: str) -> None:
    network = tiny_network()
    parts = [type(module) for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    DIALECTS[dialect][0](network, small_card(), tmp_path / "model", batch_size=1, weights_sha256=SHA256)
    assert [type(module) for module in network.modules()] == parts
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("form", CARDS)
def test_torchscript_loads_by_itself_and_equals_the_network_at_other_batch_sizes(tmp_path: Path, form: str) -> None:
    card = CARDS[form]
    export("torchscript", tmp_path / "model.pt", card=card, size=2)
    for count in (2, 3):
        images = images_for(card, count)
        found = run_torchscript(tmp_path / "model.pt", card, images)
        assert_equal(found, golden(tiny_network(), card, images))


def test_torchscript_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    export("torchscript", tmp_path / "one.pt")
    with zipfile.ZipFile(tmp_path / "one.pt") as archive:
        code = b"".join(archive.read(name) for name in archive.namelist() if "/data/" not in name)
    assert b".py" not in code
    assert str(Path(harness.__file__).parent.parent).encode() not in code


def test_torchscript_says_which_weights_it_holds_and_keeps_the_deformable_operator(tmp_path: Path) -> None:
    export("torchscript", tmp_path / "model.pt")
    extra: dict[str, str | bytes] = {"weights_sha256": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(tmp_path / "model.pt"), _extra_files=extra)  # type: ignore[no-untyped-call]
    assert extra == {"weights_sha256": SHA256.encode()}
    assert str(module.inlined_graph).count("torchvision::deform_conv2d") == 1


@pytest.mark.parametrize(("dialect", "form"), [("decomposed", "plain"), *(("torchscript", form) for form in CARDS)])
def test_file_is_held_to_its_network(tmp_path: Path, dialect: str, form: str) -> None:
    """One that computes something else than it should, if only in one head, is named."""
    card = CARDS[form]
    exported = export(dialect, tmp_path / "model", card=card)
    check_export(exported, 1)
    other = tiny_network()
    other.state_dict()["reg.2.bias"].add_(0.5)
    with pytest.raises(HarnessError, match=f"the {dialect} export computes '{card.output.names[-1]}' otherwise") as no:
        check_export(replace(exported, module=other), 1)
    assert no.value.file == str(tmp_path / "model")


def test_file_that_gives_nan_is_not_what_the_network_computes(decomposed: Path, tmp_path: Path) -> None:
    model = onnx.load(decomposed)
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "reg.2.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(2, np.nan, np.float32), bias.name))
    onnx.save(model, tmp_path / "nan.onnx")
    exported = Exported(small_card("resdcn_18"), "decomposed", small_network("resdcn_18"), tmp_path / "nan.onnx")
    with pytest.raises(HarnessError, match="computes 'reg' otherwise than the network"):
        check_export(exported, 1)
