"""Graphs of other exporters in the Ascend dialect: read as by ATC, or refused with its reason."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from conformance.support.written_onnx import assert_computes, copied
from harness.centernet.ops import DCNv2
from harness.emulation.ascend import runnable
from harness.errors import HarnessError
from harness.export import export_ascend, load_onnx_checked
from harness.export.ascend_parser import Deformable, read_deformable, require_readable
from harness.export.network import CardNetwork

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """A network of one DCNv2 and its batch norm."""
    path = tmp_path_factory.mktemp("ascend") / "tiny.onnx"
    export_ascend(tiny_network(), small_card(), path, batch_size=None, weights_sha256=SHA256)
    return onnx.load(path)


def deformable_node(model: ModelProto) -> onnx.NodeProto:
    [node] = [node for node in model.graph.node if node.op_type == "DeformableConv2D"]
    return node


class RecipeDCN(nn.Module):
    """A DCNv2 in the form of the published recipes: offsets split by a reshape, the operator by its symbol only."""

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


@pytest.mark.parametrize(
    ("batch", "names"),
    [(None, ("output1", "output2", "output3")), (1, ("hm", "wh", "reg"))],
    ids=["contrib", "built-in"],
)
def test_model_made_by_a_published_recipe_runs_here(tmp_path: Path, batch: int | None, names: tuple[str, ...]) -> None:
    """The recipes use PyTorch's older exporter at opset 11: batch norm and shapes are computed in the graph."""
    network, path = tiny_network(), tmp_path / "theirs.onnx"
    traced = CardNetwork(network, small_card())
    traced.network.stages[1] = RecipeDCN(traced.network.stages[1], batch)  # type: ignore[index, operator, union-attr]
    axes = None if batch else {"actual_input": {0: "-1"}}
    named: dict[str, Any] = {"input_names": ["actual_input"], "output_names": list(names), "dynamic_axes": axes}
    images = torch.from_numpy(small_images(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(traced.eval(), (images,), path, dynamo=False, opset_version=11, **named)
    model = load_onnx_checked(path)
    assert {"Reshape", "BatchNormalization"} <= {node.op_type for node in model.graph.node}
    card = small_card(image={"name": "actual_input"}, output={"names": names})
    for count in (1,) if batch else (1, 3):
        assert_computes(runnable(model, fp16=False), network, card, small_images(count))


Change = Callable[[ModelProto], object]


def attribute_of(model: ModelProto, name: str) -> onnx.AttributeProto:
    [attribute] = [attribute for attribute in deformable_node(model).attribute if attribute.name == name]
    return attribute


def rename(name: str, other: str) -> Change:
    return lambda model: setattr(attribute_of(model, name), "name", other)


def set_ints(name: str, *values: int) -> Change:
    return lambda model: attribute_of(model, name).ints.__setitem__(slice(None), values)


def without(name: str) -> Change:
    return lambda model: deformable_node(model).attribute.remove(attribute_of(model, name))


def opset(version: int) -> Change:
    return lambda model: setattr(model.opset_import[0], "version", version)


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
    model = copied(tiny)
    require_readable(model)
    change(model)
    for use in (require_readable, lambda graph, file: runnable(graph, fp16=False, file=file)):
        with pytest.raises(HarnessError, match=message) as caught:
            use(model, Path("theirs.onnx"))  # type: ignore[operator]
        assert (caught.value.file, caught.value.field) == ("theirs.onnx", field)
        assert caught.value.remedy


@pytest.mark.parametrize("version", [9, 11, 13, 16])
def test_one_number_stands_for_both_axes_and_every_readable_opset_is_read(tiny: ModelProto, version: int) -> None:
    model = copied(tiny)
    for name in ("strides", "pads", "dilations"):
        set_ints(name, 1)(model)
    opset(version)(model)
    require_readable(model)
    node = deformable_node(model)
    assert read_deformable(node) == Deformable((1, 1), (1, 1), (1, 1), 1, 1)


def test_checker_judges_all_but_the_operator_that_only_atc_knows(tiny: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny, path)
    assert len(load_onnx_checked(path).graph.node) == len(tiny.graph.node)
    broken = copied(tiny)
    broken.graph.node[0].op_type = "Convolve"
    onnx.save(broken, path)
    with pytest.raises(HarnessError, match="not a valid ONNX model: No Op registered for Convolve"):
        load_onnx_checked(path)
