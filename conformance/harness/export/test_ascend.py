"""The Ascend dialect has the form that ATC reads, and computes the network's outputs."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from conformance.support.command_line import run as run_verb
from conformance.support.small_model import SHA256, SIDES, small_card, small_images, tiny_network
from conformance.support.tiny import CARD as TINY_CARD
from conformance.support.tiny import tiny_network as small_network
from conformance.support.written_onnx import assert_computes, assert_names_no_path, copied, run_onnx
from harness.cards import ModelCard, load_model_card
from harness.centernet.networks import DETECTION_HEADS, HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.devices.artifact import Exported
from harness.emulation.ascend import runnable
from harness.errors import HarnessError
from harness.export import export_ascend
from harness.export.ascend import out_nodes
from harness.export.check import check_export

pytestmark = pytest.mark.export

OUTPUTS = ("output1", "output2", "output3")


def write(network: HeadedNetwork, card: ModelCard, path: Path, batch_size: int | None = None) -> ModelProto:
    export_ascend(network, card, path, batch_size=batch_size, weights_sha256=SHA256)
    return onnx.load(path)


def deformable_nodes(model: ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "DeformableConv2D"]


GEOMETRIES: list[dict[str, int]] = [
    {},
    {"stride": 2},
    {"dilation": 2, "padding": 2},
    {"kernel_size": 5, "padding": 2, "offset_groups": 2},
    {"kernel_size": 1, "padding": 0, "offset_groups": 4},
    {"stride": 2, "padding": 3, "dilation": 3, "offset_groups": 2},
]


class Deformed(HeadedNetwork):
    """DCNv2 of every geometry side by side, their offsets some pixels and x and y not alike."""

    def __init__(self) -> None:
        super().__init__(DETECTION_HEADS, 6 * len(GEOMETRIES), 0)
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.finer = nn.Conv2d(3, 4, 2, 2)
        self.dcns = nn.ModuleList(DCNv2(4, 6, **geometry) for geometry in GEOMETRIES)
        for dcn in self.dcns:
            nn.init.normal_(dcn.conv_offset_mask.weight, std=0.5)
            nn.init.normal_(dcn.conv_offset_mask.bias, std=2)

    def fed(self, images: Tensor) -> list[Tensor]:
        """Return the input of each DCNv2, such that all give maps of one size."""
        stems = {1: self.stem(images), 2: self.finer(images)}
        return [stems[geometry.get("stride", 1)] for geometry in GEOMETRIES]

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([dcn(maps) for dcn, maps in zip(self.dcns, self.fed(x), strict=True)], 1)


def deformed() -> Deformed:
    torch.manual_seed(1)
    return Deformed().eval().requires_grad_(False)


CARD = small_card(image={"name": "actual_input"}, output={"names": OUTPUTS})
"""With the names of the published recipe."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The network of all geometries."""
    return write(deformed(), CARD, tmp_path_factory.mktemp("ascend") / "m.onnx")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A network of one DCNv2 and its batch norm."""
    return write(tiny_network(), small_card(), tmp_path_factory.mktemp("ascend") / "tiny.onnx")


@pytest.mark.parametrize("count", [1, 3])
def test_dcns_of_any_geometry_are_run_and_equal_the_network_at_any_batch_size(exported: ModelProto, count: int) -> None:
    network, images = deformed(), small_images(count)
    for dcn, maps in zip(network.dcns, network.fed(torch.from_numpy(images)), strict=True):
        asked = dcn.conv_offset_mask(maps)
        offsets = asked[:, : asked.shape[1] // 3 * 2]
        assert float((offsets[:, 0::2] - offsets[:, 1::2]).abs().mean()) > 0.5
    assert_computes(runnable(exported, fp16=False), network, CARD, images)


def test_batch_norm_behind_a_dcn_is_folded_into_it(tiny: ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in tiny.graph.node}
    assert_computes(runnable(tiny, fp16=False), tiny_network(), small_card(), small_images(2))


def test_nodes_are_as_the_parser_of_atc_reads_them(exported: ModelProto) -> None:
    nodes = deformable_nodes(exported)
    assert len(nodes) == len(GEOMETRIES)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in exported.graph.initializer}
    for node, geometry in zip(nodes, GEOMETRIES, strict=True):
        assert node.domain == ""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes == {
            "strides": 2 * [geometry.get("stride", 1)],
            "pads": 2 * [geometry.get("padding", 1)],
            "dilations": 2 * [geometry.get("dilation", 1)],
            "groups": 1,
            "deformable_groups": geometry.get("offset_groups", 1),
        }
        x, weight, offsets, bias = node.input
        assert shapes[weight] == (6, 4, *2 * [geometry.get("kernel_size", 3)])
        assert shapes[bias] == (6,)
        assert x not in shapes
        [joined] = [maker for maker in exported.graph.node if offsets in maker.output]
        assert (joined.op_type, len(joined.input)) == ("Concat", 2)
        [mask] = [maker for maker in exported.graph.node if joined.input[1] in maker.output]
        assert mask.op_type == "Sigmoid"


def test_file_is_of_opset_11_in_one_domain_without_batch_norm(exported: ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in exported.opset_import] == [("", 11)]
    assert exported.ir_version == 6
    operators = Counter(node.op_type for node in exported.graph.node)
    assert not {"BatchNormalization", "DeformConv", "GridSample"} & operators.keys()
    assert len(exported.functions) == 0
    for node in exported.graph.node:
        assert node.domain == ""
        if node.op_type != "DeformableConv2D":
            assert onnx.defs.get_schema(node.op_type, 11).since_version <= 11


def test_input_and_outputs_have_names_order_and_a_batch_of_any_size(exported: ModelProto) -> None:
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*exported.graph.input, *exported.graph.output)
    }
    assert shapes == {
        "actual_input": ["batch", 3, *SIDES],
        "output1": ["batch", 80, 16, 24],
        "output2": ["batch", 2, 16, 24],
        "output3": ["batch", 2, 16, 24],
    }
    assert list(shapes) == ["actual_input", *OUTPUTS]


def test_out_nodes_are_read_from_the_graph(exported: ModelProto) -> None:
    for text, output in zip(out_nodes(exported), exported.graph.output, strict=True):
        name, _, place = text.partition(":")
        [node] = [node for node in exported.graph.node if node.name == name]
        assert node.output[int(place)] == output.name
    unnamed = copied(exported)
    unnamed.graph.node[-1].ClearField("name")
    with pytest.raises(HarnessError, match="gives output 'output3' has no name") as caught:
        out_nodes(unnamed)
    assert caught.value.remedy == "name the output itself: --out_nodes=output1;output2;output3"


def test_resnet_18_without_dcn_is_exported_by_the_same_verb(tmp_path: Path) -> None:
    card, weights, path = (tmp_path / name for name in ("card.toml", "weights.pth", "model.onnx"))
    card.write_text(TINY_CARD)
    torch.save({"state_dict": small_network().state_dict()}, weights)
    options = ("--dialect", "ascend", "--model", card, "--weights", weights, "--output", path)
    assert run_verb("export", *options) == (0, f"{path}\n", "")
    model = onnx.load(path)
    assert deformable_nodes(model) == []
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    onnx.checker.check_model(model, full_check=True)
    images = small_images(2)[:, :, :, :64]
    assert_computes(runnable(model, fp16=False), small_network(), load_model_card(card), images)


def test_file_has_the_form_that_its_card_states(tmp_path: Path) -> None:
    output = {"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True, "hm": "probability"}
    card = small_card(image={"name": "pixels", "layout": "NHWC", "dtype": "uint8"}, output=output)
    images = np.random.default_rng(0).integers(0, 4, (2, *SIDES, 3), np.uint8)
    model = write(tiny_network(), card, tmp_path / "m.onnx")
    assert_computes(runnable(model, fp16=False), tiny_network(), card, images)


def test_static_file_gives_heads_under_the_names_of_others(tmp_path: Path) -> None:
    """The built-in recipe, of batch size 1, calls reg 'wh' and wh 'reg'."""
    card = small_card(output={"names": ("hm", "wh", "reg"), "heads": ("hm", "reg", "wh")})
    model = write(tiny_network(), card, tmp_path / "m.onnx", 1)
    assert [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, *SIDES]
    found = run_onnx(runnable(model, fp16=False), small_images(1))
    with torch.inference_mode():
        heads = tiny_network()(torch.from_numpy(small_images(1)))
    np.testing.assert_allclose(found["wh"], heads["reg"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found["reg"], heads["wh"], rtol=0, atol=1e-4)


def test_no_path_of_the_exporting_machine_is_in_the_file(exported: ModelProto) -> None:
    assert_names_no_path(exported)


class Shrinking(HeadedNetwork):
    """A network with an operator that is not among those compared with opset 11."""

    def __init__(self) -> None:
        super().__init__(DETECTION_HEADS, 8, 4)
        self.stem = nn.Conv2d(3, 8, 4, 4)

    def features(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.stem(x))


def test_operator_that_opset_11_may_compute_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"the network needs .*, which is not known to be the same in opset 11"):
        write(Shrinking(), small_card(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_file_is_held_to_its_network(tiny: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    subject = Exported(small_card(), "ascend", tiny_network(), path)
    model = copied(tiny)
    onnx.save(model, path)
    check_export(subject, 1)
    convolution = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("conv_offset_mask.weight"))
    values = onnx.numpy_helper.to_array(convolution).copy()
    values[:18] = np.concatenate((values[9:18], values[:9]))  # the y block before the x block
    convolution.CopyFrom(onnx.numpy_helper.from_array(values, convolution.name))
    onnx.save(model, path)
    with pytest.raises(HarnessError, match="the ascend export computes 'hm' otherwise than the network"):
        check_export(subject, 1)
