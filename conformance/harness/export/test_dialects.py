"""The dialects of the toolchains: each computes the network's outputs, in the form that old compilers read."""

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
from conformance.support.written_onnx import (
    Arrays,
    assert_computes,
    assert_equal,
    assert_names_no_path,
    golden_outputs,
    unchanged,
)
from harness.cards import ModelCard
from harness.centernet.ops import DCNv2
from harness.devices.artifact import Exported
from harness.errors import HarnessError
from harness.export import DIALECTS, export_decomposed
from harness.export.check import check_export

pytestmark = pytest.mark.export

DCN_AS = {
    "standard": b"DeformConv",
    "ascend": b"DeformableConv2D",
    "decomposed": b"GridSample",
    "torchscript": b"deform_conv2d",
}
"""Operator of a DCNv2 in each dialect."""
OF_SHAPES = {"Shape", "Size", "Range", "ConstantOfShape", "NonZero", "If", "Loop"}
"""Operators that an exporter leaves if a shape is not known."""
CARDS = {
    "plain": small_card(),
    "concatenated": small_card(
        output={"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True, "hm": "probability"}
    ),
    "nhwc": small_card(image={"name": "pixels", "layout": "NHWC", "dtype": "uint8"}),
}


def export(dialect: str, path: Path, *, card: ModelCard = CARDS["plain"], size: int | None = 1) -> Exported:
    """Export a network of one DCNv2."""
    return DIALECTS[dialect][0](tiny_network(), card, path, batch_size=size, weights_sha256=SHA256)


def run_torchscript(path: Path, card: ModelCard, images: NDArray[Any]) -> Arrays:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        outputs = module(torch.from_numpy(images))
    return {name: tensor.numpy() for name, tensor in zip(card.output.names, outputs, strict=True)}


def images_for(card: ModelCard, count: int) -> NDArray[Any]:
    if card.input.dtype == "uint8":  # small pixels, lest everything saturates
        return np.random.default_rng(0).integers(0, 4, (count, *SIDES, 3), np.uint8)
    return small_images(count)


@pytest.fixture(scope="module")
def decomposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet with three DCNv2."""
    path = tmp_path_factory.mktemp("decomposed") / "model.onnx"
    card = small_card("resdcn_18")
    export_decomposed(small_network("resdcn_18"), card, path, batch_size=1, weights_sha256=SHA256)
    return path


def test_decomposed_heads_equal_those_of_the_network(decomposed: Path) -> None:
    card, network = small_card("resdcn_18"), small_network("resdcn_18")
    for image in small_images(2):
        assert_computes(onnx.load(decomposed), network, card, image[None])


@pytest.mark.parametrize("form", CARDS)
def test_decomposed_batches_have_the_form_of_the_card(tmp_path: Path, form: str) -> None:
    card, path = CARDS[form], tmp_path / "model.onnx"
    export("decomposed", path, card=card, size=2)
    assert_computes(onnx.load(path), tiny_network(), card, images_for(card, 2))


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


@pytest.mark.parametrize("dialect", DCN_AS)
def test_export_leaves_a_network_in_training_as_is_and_writes_the_dialects_dcn(tmp_path: Path, dialect: str) -> None:
    network = tiny_network().train()
    for part in network.modules():
        if isinstance(part, DCNv2):
            part.decomposed = True
    with unchanged(network):
        DIALECTS[dialect][0](network, CARDS["plain"], tmp_path / "model", batch_size=1, weights_sha256=SHA256)
    assert DCN_AS[dialect] in (tmp_path / "model").read_bytes()


@pytest.mark.parametrize(("dialect", "size"), [("standard", None), ("ascend", None), ("decomposed", 1)])
def test_two_exports_are_the_same_to_the_byte_and_silent(
    tmp_path: Path, dialect: str, size: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("again.onnx", "first.onnx")]
    for path in paths:
        export(dialect, path, size=size)
    assert capfd.readouterr() == ("", "")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


@pytest.mark.parametrize("form", CARDS)
def test_torchscript_loads_by_itself_and_equals_the_network_at_other_batch_sizes(tmp_path: Path, form: str) -> None:
    card = CARDS[form]
    export("torchscript", tmp_path / "model.pt", card=card, size=2)
    for count in (2, 3):
        images = images_for(card, count)
        assert_equal(run_torchscript(tmp_path / "model.pt", card, images), golden_outputs(tiny_network(), card, images))


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
    """A file with a single wrong head is named."""
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
