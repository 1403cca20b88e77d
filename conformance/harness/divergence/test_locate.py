"""The first wrong layer of a port is found by cuts, named as in PyTorch, and reproduced alone."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from conformance.support.command_line import run
from conformance.support.small_model import SHA256, SIDES, small_card, small_network, tiny_network
from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.data.synthetic import embedded_dataset_root
from harness.devices.artifact import Artifact, Exported
from harness.devices.base import Device
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.torch import TorchDevice
from harness.divergence.graph import CutGraph
from harness.divergence.locate import LayerSearch, Located
from harness.errors import HarnessError
from harness.export import export_standard
from harness.run.subject import Subject

Change = Callable[[ModelProto], None]

CARD = small_card(image={"scale": 1 / 255, "mean": (0.4,) * 3, "std": (0.3,) * 3})
IMAGE = np.random.default_rng(1).standard_normal((3, *SIDES)).astype(np.float32) / 2


class Base:
    """A network with its export, from which tests make ports."""

    def __init__(self, network: HeadedNetwork, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.path = folder / f"{CARD.name}-{SHA256[:12]}-standard.onnx"  # the name that a search looks for first
        export_standard(network, CARD, self.path, batch_size=None, weights_sha256=SHA256)

    def spoilt(self, change: Change) -> Path:
        """Write the export with a change."""
        model = onnx.load(self.path)
        change(model)
        onnx.save(model, self.folder / "wrong.onnx")
        return self.folder / "wrong.onnx"

    def port(self, onnx_file: Path | None, device: Device | None = None, card: ModelCard = CARD) -> LayerSearch:
        """Make a search in a port of the network."""
        subject = Subject(card, self.network, onnx_file, SHA256)
        return LayerSearch(subject, device or OnnxRuntimeDevice(), "fp32", IMAGE, self.folder)

    def located(self, onnx_file: Path | None, device: Device | None = None) -> Located:
        found, _ = self.port(onnx_file, device).locate()
        assert found is not None
        return found


@pytest.fixture(scope="module")
def deformable(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(tiny_network(), tmp_path_factory.mktemp("deformable"))


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(small_network("res_18"), tmp_path_factory.mktemp("residual"))


def of_layer(model: ModelProto, layer: str) -> NodeProto:
    """Return the node that has the parameters of a layer."""
    return next(node for node in model.graph.node if any(name == f"{layer}.weight" for name in node.input))


def giving(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in model.graph.node if name in node.output)


def wrong_padding(model: ModelProto) -> None:
    [pads] = [a for a in of_layer(model, "layer2.0.conv1").attribute if a.name == "pads"]
    pads.ints[:] = [0, 0, 2, 2]


def lost_skip(model: ModelProto) -> None:
    """Add a residual twice instead of the branch."""
    add = [node for node in model.graph.node if node.op_type == "Add"][4]
    add.input[0] = add.input[1]


def lost_relu(model: ModelProto) -> None:
    [node for node in model.graph.node if node.op_type == "Relu"][3].op_type = "Identity"


def other_weights(model: ModelProto) -> None:
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "wh.0.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.1, bias.name))


def mask_without_sigmoid(model: ModelProto) -> None:
    dcn = of_layer(model, "stages.1")
    dcn.input[4] = giving(model, dcn.input[4]).input[0]


def offsets_at_zero(model: ModelProto) -> None:
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "stages.1.conv_offset_mask.bias"]
    bias.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(bias)), bias.name))


@pytest.mark.parametrize(
    ("network", "change", "layer", "operators"),
    [
        ("residual", wrong_padding, "layer2.0.conv1", ("Conv",)),
        ("residual", lost_skip, None, ("Add",)),
        ("residual", lost_relu, "layer1.1.relu", ("Identity",)),
        ("residual", other_weights, "wh.0", ("Conv",)),
        ("deformable", mask_without_sigmoid, "stages.1", ("DeformConv",)),
        ("deformable", offsets_at_zero, "stages.1.conv_offset_mask", ("Conv",)),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_layer_made_wrong_by_hand_is_found_and_named(
    network: str, change: Change, layer: str | None, operators: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    base: Base = request.getfixturevalue(network)
    found = base.located(base.spoilt(change))
    assert found.operators == operators
    if layer is not None:
        assert found.layer == layer
    assert found.divergence.end - found.divergence.start == 1
    assert found.on_host.problem is not None  # the ONNX is at fault, wherever it runs
    assert found.divergence.runs <= math.ceil(math.log2(len(CutGraph(base.path)))) + 2


@pytest.mark.parametrize("network", ["residual", "deformable"])
def test_right_port_has_no_such_layer(network: str, request: pytest.FixtureRequest) -> None:
    base: Base = request.getfixturevalue(network)
    assert base.port(base.path).locate() == (None, 1)
    assert base.port(None).locate() == (None, 1)


class Compiler(OnnxRuntimeDevice):
    """A device that compiles every operator of one kind wrongly."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        assert exported.path is not None
        model = onnx.load(exported.path)
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "MaxPool" and attribute.name == "pads":
                    attribute.ints[:] = [0, 0, 2, 2]
        path = exported.path.with_name("compiled.onnx")
        onnx.save(model, path)
        return super().convert(Exported(exported.card, exported.dialect, None, path), batch_size, precision)


def test_mistake_of_a_device_is_told_from_one_of_the_model(residual: Base) -> None:
    found = residual.located(None, Compiler())
    assert (found.layer, found.operators) == ("maxpool", ("MaxPool",))
    assert found.alone is not None
    assert found.alone.problem is not None
    assert found.on_host.problem is None
    assert "the device or its compiler is at fault" in found.reproduction.reading


def checked_in(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "check.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_reproduction_runs_by_onnxruntime_alone_and_holds_one_layer(deformable: Base, tmp_path: Path) -> None:
    found = deformable.located(deformable.spoilt(offsets_at_zero))
    found.reproduction.write(tmp_path / "out")
    names = ["README.md", "check.py", "expected.npz", "inputs.npz", "model.onnx"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert {tensor.name for tensor in model.graph.initializer} == set(model.graph.node[0].input[1:])
    assert model.metadata_props == []
    checked = checked_in(tmp_path / "out")
    assert checked.returncode == 1, checked.stderr
    assert "NOT as expected" in checked.stdout
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("# stages.1.conv_offset_mask\n")
    assert "the model itself is at fault" in text


def test_reproduction_of_a_devices_mistake_is_right_by_onnxruntime(residual: Base, tmp_path: Path) -> None:
    residual.located(None, Compiler()).reproduction.write(tmp_path / "out")
    checked = checked_in(tmp_path / "out")
    assert (checked.returncode, "NOT" in checked.stdout) == (0, False), checked.stderr


def test_whole_model_goes_along_only_where_it_is_asked_for(deformable: Base, tmp_path: Path) -> None:
    port = deformable.port(deformable.spoilt(mask_without_sigmoid))
    for whole in (False, True):
        found, _ = port.locate(whole=whole)
        assert found is not None
        found.reproduction.write(tmp_path / str(whole))
        assert (tmp_path / str(whole) / "whole_model.onnx").exists() == whole


def test_layers_of_another_exporter_are_known_by_their_parameters(deformable: Base) -> None:
    """Every tensor has another name: only layers with parameters are known."""

    def change(model: ModelProto) -> None:
        offsets_at_zero(model)
        kept = {value.name for value in (*model.graph.input, *model.graph.output)}
        kept |= {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [name if name in kept or not name else f"/{name}_output_0" for name in names]

    found = deformable.located(deformable.spoilt(change))
    assert found.layer == "stages.1.conv_offset_mask"
    assert found.operators == ("Conv",)


def test_wrong_layer_is_found_though_later_ones_compensate_it(residual: Base) -> None:
    """A layer is wrong and the next ones compensate it; a later one is wrong too."""

    def change(model: ModelProto) -> None:
        other_weights(model)
        relu = next(node for node in model.graph.node if node.op_type == "Relu")
        relu.op_type = "Neg"  # ReLU(x) = max(-(-x), 0), if the place behind it says so
        place = list(model.graph.node).index(relu)
        made = relu.output[0]
        back = [
            helper.make_node("Neg", [made], ["back"], name="back"),
            helper.make_node("Relu", ["back"], ["healed"], name="healed"),
        ]
        for node in model.graph.node:
            node.input[:] = ["healed" if name == made else name for name in node.input]
        nodes = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes[: place + 1], *back, *nodes[place + 1 :]])

    found = residual.located(residual.spoilt(change))
    assert found.operators == ("Neg",)
    assert found.layer == "relu"


def test_int8_has_no_tolerance_for_layers(deformable: Base) -> None:
    subject = Subject(CARD, deformable.network, None, SHA256)
    with pytest.raises(HarnessError, match="no layer can be held to a tolerance at int8"):
        LayerSearch(subject, OnnxRuntimeDevice(), "int8", IMAGE, deformable.folder)


def test_device_that_takes_the_network_itself_cannot_be_cut(deformable: Base) -> None:
    subject = Subject(CARD, deformable.network, None, SHA256)
    with pytest.raises(HarnessError, match="only an ONNX can be cut"):
        LayerSearch(subject, TorchDevice(), "fp32", IMAGE, deformable.folder)


@pytest.mark.parametrize("start", [0, 3])
def test_part_of_a_model_computes_what_it_computes_within(residual: Base, start: int) -> None:
    port = residual.port(residual.path)
    graph, values = port.graph, port.on_host
    for end in (start + 1, start + 4, len(graph)):
        part = graph.between(start, end)
        onnx.checker.check_model(part)
        session = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        fed: dict[str, NDArray[Any]] = {
            value.name: port.images if value.name in graph.inputs else values[value.name] for value in part.graph.input
        }
        names = [value.name for value in part.graph.output]
        for name, got in zip(names, session.run(names, fed), strict=True):
            np.testing.assert_allclose(got, values[name], rtol=0, atol=1e-4 * np.abs(values[name]).max())


def test_verb_finds_the_layer_and_writes_the_reproduction(deformable: Base, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(
        f'name = "mine"\ndescription = "d"\nsource = "s"\n[input]\nheight = {SIDES[0]}\nwidth = {SIDES[1]}\n'
        'channel_order = "BGR"\nscale = 0.004\nmean = [0.4, 0.4, 0.4]\nstd = [0.3, 0.3, 0.3]\ngeometry = "affine"\n'
        '[output]\nnames = ["hm", "wh", "reg"]\nhm = "logits"\n'
    )
    root = embedded_dataset_root("val")
    common = ("diagnose", "--model", tmp_path / "card.toml", "--coco", root)
    status, out, _ = run(*common, "--onnx", deformable.path, "--output", tmp_path / "out")
    assert (status, (tmp_path / "out").exists()) == (0, False)
    assert out.startswith("no layer is beyond tolerance on onnxruntime (silicon), fp32, held to the same ONNX")
    status, _, err = run(*common, "--onnx", deformable.path, "--image", 7)
    assert status == 4
    assert "--image: no image has the id 7" in err
