"""The Ascend dialect: what ATC reads, and that it computes what the network computes."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper
from torch import Tensor, nn

import harness
from conformance.command_line import run as run_verb
from conformance.meta.tiny import CARD as TINY_WORLD
from conformance.meta.tiny import tiny_network as tiny_world_network
from conformance.small_model import SHA256, SIDES, small_card, small_images, tiny_network
from harness.cards import ModelCard, load_model_card
from harness.devices.base import Exported
from harness.emulation.ascend import runnable
from harness.errors import HarnessError
from harness.export import export_ascend, load_onnx_checked
from harness.export.ascend import out_nodes
from harness.export.ascend_parser import Deformable, read_deformable, require_readable
from harness.export.check import check_export
from harness.export.network import CardNetwork
from harness.models import DETECTION_HEADS, HeadedNetwork
from harness.ops import DCNv2

pytestmark = pytest.mark.export

ABSOLUTE_PATH = re.compile(rb"/(?:home|root|tmp|usr|opt|var|mnt|Users)/|site-packages|[A-Za-z]:\\")
ALLOWED = 1e-4
"""Of each output's largest magnitude."""
OUTPUTS = ("output1", "output2", "output3")

Arrays = dict[str, NDArray[Any]]


def write(network: HeadedNetwork, card: ModelCard, path: Path, batch_size: int | None = None) -> ModelProto:
    export_ascend(network, card, path, batch_size=batch_size, weights_sha256=SHA256)
    return onnx.load(path)


def run(model: ModelProto, images: NDArray[Any]) -> Arrays:
    """What ONNX Runtime computes of the graph, without this project's device."""
    content = runnable(model, fp16=False).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def assert_equal(found: Arrays, network: HeadedNetwork, card: ModelCard, images: NDArray[Any]) -> None:
    with torch.inference_mode():
        golden = CardNetwork(network, card)(torch.from_numpy(images))
    assert list(found) == list(card.output.names)
    for (name, values), expected in zip(found.items(), golden, strict=True):
        assert values.shape == expected.shape, name
        difference = float(np.abs(values - expected.numpy()).max() / expected.abs().max())
        assert difference <= ALLOWED, f"{name}: off by {difference:.2e}"


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
        """What each DCNv2 gets, so that all give maps of one size."""
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
    assert_equal(run(exported, images), network, CARD, images)


def test_batch_norm_behind_a_dcn_is_folded_into_it(tiny: ModelProto) -> None:
    assert "BatchNormalization" not in {node.op_type for node in tiny.graph.node}
    assert_equal(run(tiny, small_images(2)), tiny_network(), small_card(), small_images(2))


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
    unnamed = ModelProto()
    unnamed.CopyFrom(exported)
    unnamed.graph.node[-1].ClearField("name")
    with pytest.raises(HarnessError, match="gives output 'output3' has no name") as caught:
        out_nodes(unnamed)
    assert caught.value.remedy == "name the output itself: --out_nodes=output1;output2;output3"


def test_network_without_dcn_takes_the_same_road(tmp_path: Path) -> None:
    """The road of those who gave up on DCN, ResNet-18, by the same verb."""
    card, weights, path = (tmp_path / name for name in ("card.toml", "weights.pth", "model.onnx"))
    card.write_text(TINY_WORLD)
    torch.save({"state_dict": tiny_world_network().state_dict()}, weights)
    options = ("--dialect", "ascend", "--model", card, "--weights", weights, "--output", path)
    assert run_verb("export", *options) == (0, f"{path}\n", "")
    model = onnx.load(path)
    assert deformable_nodes(model) == []
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    onnx.checker.check_model(model, full_check=True)
    images = small_images(2)[:, :, :, :64]
    assert_equal(run(model, images), tiny_world_network(), load_model_card(card), images)


def test_file_has_the_form_that_its_card_states(tmp_path: Path) -> None:
    output = {"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True, "hm": "probability"}
    card = small_card(image={"name": "pixels", "layout": "NHWC", "dtype": "uint8"}, output=output)
    images = np.random.default_rng(0).integers(0, 4, (2, *SIDES, 3), np.uint8)
    assert_equal(run(write(tiny_network(), card, tmp_path / "m.onnx"), images), tiny_network(), card, images)


def test_static_file_gives_heads_under_the_names_of_others(tmp_path: Path) -> None:
    """The built-in recipe, of batch size 1, calls reg 'wh' and wh 'reg'."""
    card = small_card(output={"names": ("hm", "wh", "reg"), "heads": ("hm", "reg", "wh")})
    model = write(tiny_network(), card, tmp_path / "m.onnx", 1)
    assert [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, *SIDES]
    found = run(model, small_images(1))
    with torch.inference_mode():
        heads = tiny_network()(torch.from_numpy(small_images(1)))
    np.testing.assert_allclose(found["wh"], heads["reg"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found["reg"], heads["wh"], rtol=0, atol=1e-4)


def test_no_path_of_the_exporting_machine_is_in_the_file(exported: ModelProto) -> None:
    model = ModelProto()
    model.CopyFrom(exported)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # weights hold any bytes by chance
    content = model.SerializeToString()
    assert not ABSOLUTE_PATH.findall(content)
    assert str(Path(harness.__file__).parent.parent).encode() not in content
    assert b"stack_trace" not in content


def test_two_exports_are_the_same_to_the_byte_and_silent_and_leave_the_network_as_it_was(
    tiny: ModelProto, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    capfd.readouterr()
    again = write(network, small_card(), tmp_path / "again.onnx")
    assert capfd.readouterr() == ("", "")
    assert again.SerializeToString(deterministic=True) == tiny.SerializeToString(deterministic=True)
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


class Shrinking(HeadedNetwork):
    """Needs an operator that nobody has compared with that of opset 11."""

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
    model = ModelProto()
    model.CopyFrom(tiny)
    onnx.save(model, path)
    check_export(subject, 1)
    convolution = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("conv_offset_mask.weight"))
    values = onnx.numpy_helper.to_array(convolution).copy()
    values[:18] = np.concatenate((values[9:18], values[:9]))  # the y block before the x block
    convolution.CopyFrom(onnx.numpy_helper.from_array(values, convolution.name))
    onnx.save(model, path)
    with pytest.raises(HarnessError, match="the ascend export computes 'hm' otherwise than the network"):
        check_export(subject, 1)


class RecipeDCN(nn.Module):
    """A DCNv2 as the published recipes trace it: offsets parted by a reshape, and the operator by its symbol only."""

    def __init__(self, dcn: DCNv2, batch: int | None) -> None:
        super().__init__()
        self.dcn = dcn
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        first, second, mask = torch.chunk(self.dcn.conv_offset_mask(x), 3, dim=1)
        offset = torch.cat((first, second), 1)
        n = offset.shape[0] if self.batch is None else self.batch
        pairs = offset.reshape(n, -1, 2, *offset.shape[2:])
        sides = (n, offset.shape[1] // 2, *offset.shape[2:])
        blocks = [pairs[:, :, i].reshape(sides) for i in (1, 0)]
        joined = torch.cat((*blocks, torch.sigmoid(mask)), 1)
        result: Tensor = BySymbol.apply(x, self.dcn.weight, joined, self.dcn.bias)  # type: ignore[no-untyped-call]
        return result


class BySymbol(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        del offset, bias
        return x.new_zeros(len(x), len(weight), *x.shape[2:])

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:  # noqa: ANN401
        pairs = {f"{name}_i": [1, 1] for name in ("strides", "pads", "dilations")}
        return g.op("DeformableConv2D", *inputs, **pairs, groups_i=1, deformable_groups_i=1).setType(inputs[0].type())


@pytest.mark.parametrize(("batch", "names"), [(None, OUTPUTS), (1, ("hm", "wh", "reg"))], ids=["contrib", "built-in"])
def test_model_that_was_made_by_a_published_recipe_runs_here(
    tmp_path: Path, batch: int | None, names: tuple[str, ...]
) -> None:
    """By PyTorch's older exporter at opset 11, batch norm and shapes computed in the graph."""
    network, path = tiny_network(), tmp_path / "theirs.onnx"
    traced = CardNetwork(network, small_card())
    traced.network.stages[1] = RecipeDCN(traced.network.stages[1], batch)  # type: ignore[index, operator, union-attr]
    axes = None if batch else {"actual_input": {0: "-1"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traced.eval(),
            (torch.from_numpy(small_images(1)),),
            path,
            dynamo=False,
            opset_version=11,
            input_names=["actual_input"],
            output_names=list(names),
            dynamic_axes=axes,
        )
    model = load_onnx_checked(path)
    assert {"Reshape", "BatchNormalization"} <= {node.op_type for node in model.graph.node}
    card = small_card(image={"name": "actual_input"}, output={"names": names})
    for count in (1,) if batch else (1, 3):
        assert_equal(run(model, small_images(count)), network, card, small_images(count))


Change = Callable[[ModelProto], object]


def rename(name: str, other: str) -> Change:
    def change(model: ModelProto) -> None:
        [node] = deformable_nodes(model)
        [attribute] = [attribute for attribute in node.attribute if attribute.name == name]
        attribute.name = other

    return change


def set_ints(name: str, *values: int) -> Change:
    def change(model: ModelProto) -> None:
        [node] = deformable_nodes(model)
        [attribute] = [attribute for attribute in node.attribute if attribute.name == name]
        attribute.ints[:] = values

    return change


def without(name: str) -> Change:
    def change(model: ModelProto) -> None:
        [node] = deformable_nodes(model)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        node.ClearField("attribute")
        node.attribute.extend(kept)

    return change


def opset(version: int) -> Change:
    def change(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return change


REFUSED: dict[str, tuple[Change, str, str]] = {
    "groups left out": (without("groups"), "groups", "lacks 'groups', for which ATC takes 0"),
    "pads left out": (without("pads"), "pads", "lacks 'pads'"),
    "pads of ONNX": (set_ints("pads", 1, 1, 1, 1), "pads", "has 4 'pads', and ATC reads 1 or 2"),
    "misspelt": (
        rename("deformable_groups", "defomable_groups"),
        "defomable_groups",
        "an attribute 'defomable_groups', which ATC ignores without a word",
    ),
    "opset 8": (opset(8), "opset_import", r"no parser for DeformableConv2D of opset 8 \(E19010\)"),
    "opset 17": (opset(17), "opset_import", r"no parser for DeformableConv2D of opset 17 \(E19010\)"),
    "second domain": (
        lambda model: model.opset_import.append(helper.make_opsetid("mmcv", 1)),
        "opset_import",
        r"2 opset domains, '', 'mmcv': ATC takes one only \(E16005\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_graph_that_atc_would_refuse_or_read_otherwise_is_refused_here(tiny: ModelProto, case: str) -> None:
    change, field, message = REFUSED[case]
    model = ModelProto()
    model.CopyFrom(tiny)
    require_readable(model)
    change(model)
    for use in (require_readable, lambda graph, file: runnable(graph, fp16=False, file=file)):
        with pytest.raises(HarnessError, match=message) as caught:
            use(model, Path("theirs.onnx"))  # type: ignore[operator]
        assert (caught.value.file, caught.value.field) == ("theirs.onnx", field)
        assert caught.value.remedy


@pytest.mark.parametrize("version", [9, 11, 13, 16])
def test_one_number_stands_for_both_axes_and_every_readable_opset_is_read(tiny: ModelProto, version: int) -> None:
    model = ModelProto()
    model.CopyFrom(tiny)
    for name in ("strides", "pads", "dilations"):
        set_ints(name, 1)(model)
    opset(version)(model)
    require_readable(model)
    [node] = deformable_nodes(model)
    assert read_deformable(node) == Deformable((1, 1), (1, 1), (1, 1), 1, 1)


def test_checker_judges_all_but_the_operator_that_only_atc_knows(tiny: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny, path)
    assert len(load_onnx_checked(path).graph.node) == len(tiny.graph.node)
    broken = ModelProto()
    broken.CopyFrom(tiny)
    broken.graph.node[0].op_type = "Convolve"
    onnx.save(broken, path)
    with pytest.raises(HarnessError, match="not a valid ONNX model: No Op registered for Convolve"):
        load_onnx_checked(path)
