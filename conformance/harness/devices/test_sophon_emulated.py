"""Sophon's emulated chips, over a stand-in for tpu_mlir's interpreter, and what quantisation is said to lose where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance.support.stand_ins import tpu_mlir as fake_tpu_mlir
from conformance.support.tiny import TinySetup
from harness.cards.model import Int8
from harness.centernet.heads import check_contract
from harness.centernet.preprocess import preprocess
from harness.convert.tpu_mlir.graph import named_operators, read_graph
from harness.convert.tpu_mlir.losses import own_losses
from harness.data.calibration import Calibration
from harness.devices.artifact import Exported
from harness.devices.registry import create_device
from harness.devices.sophon_emulated import Interpreted
from harness.errors import HarnessError
from harness.types import Float32


@pytest.fixture
def exported(tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """The tiny network as the chips take it, with a toolchain in a cache of its own."""
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    fake_tpu_mlir.install(tmp_path / "cache")
    given = fake_tpu_mlir.static(tiny.card, tiny.onnx, tmp_path / "tiny.onnx", 1)
    return replace(given, calibration=Calibration(given.card, tiny.dataset, 3))


@pytest.fixture
def images(tiny: TinySetup) -> Float32:
    """One image as the network is fed."""
    fed = preprocess(tiny.model_card, tiny.dataset.read_image(tiny.dataset.image_ids[0]))[0]
    return fed[None].astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_interpreted_heads_are_those_of_the_simulator(exported: Exported, images: Float32, precision: str) -> None:
    found = {}
    for name in ("bm1684x:emulated", "bm1684x:simulated"):
        device = create_device(name)
        artifact = device.convert(exported, 1, precision)
        check_contract(exported.card, artifact, 1)
        found[name] = device.run(artifact, images)
    emulated, simulated = found.values()
    assert list(emulated) == list(simulated) == ["hm", "wh", "reg"]
    for head, values in simulated.items():
        np.testing.assert_array_equal(emulated[head], values)


def test_interpreter_and_its_folder_go_when_the_device_is_closed(exported: Exported, images: Float32) -> None:
    device = create_device("bm1684:emulated")
    artifact = device.convert(exported, 1, "fp32")
    device.run(artifact, images)
    assert isinstance(artifact.payload, Interpreted)
    process, folder = artifact.payload.interpreter._process, Path(artifact.payload.interpreter._folder.name)
    assert process.poll() is None
    assert folder.is_dir()
    device.close()
    assert process.poll() is not None
    assert not folder.exists()


def test_interpreter_that_dies_is_an_error_with_its_last_lines(exported: Exported, images: Float32) -> None:
    device = create_device("bm1684x:emulated")
    artifact = device.convert(exported, 1, "fp32")
    with pytest.raises(HarnessError, match=r"(?s)interpreter: ended with status 1; its last lines:.*Traceback"):
        device.run(artifact, images[:, :, :8])


@pytest.mark.parametrize("name", ["bm1684x:emulated", "bm1684x:simulated"])
def test_int8_says_where_most_is_lost(exported: Exported, images: Float32, name: str) -> None:
    device = create_device(name)
    assert device.convert(exported, 1, "fp32").findings.losses == {}
    losses = device.convert(exported, 1, "int8").findings.losses
    assert {tensor.partition("_")[0] for tensor in losses} <= {"hm", "wh", "reg"}
    assert list(losses.values()) == sorted(losses.values(), reverse=True)
    assert 0 < min(losses.values()) < 1


def test_operator_to_keep_in_float_that_is_not_there_is_refused_by_name(exported: Exported) -> None:
    card = exported.card.model_copy(update={"int8": Int8(keep_float=("whh",))})
    with pytest.raises(HarnessError, match="no operator of the model gives 'whh'") as caught:
        create_device("bm1684x:emulated").convert(replace(exported, card=card), 1, "int8")
    assert caught.value.field == "int8.keep_float"
    assert "wh" in str(caught.value.remedy)


GRAPH = """\
    %0 = "top.Input"(%arg0) {} : (t) -> t loc(#loc0)
    %1 = "top.Conv"(%0) {} : (t) -> t loc(#loc1)
    %2 = "top.Conv"(%1) {} : (t) -> t loc(#loc2)
    %3 = "top.Add"(%1, %2) {} : (t) -> t loc(#loc3)
    return %3 : t
#loc0 = loc("images")
#loc1 = loc("stem_Conv")
#loc2 = loc("body_Conv")
#loc3 = loc("sum_Add")
"""


def test_an_operator_loses_what_its_inputs_do_not_explain(tmp_path: Path) -> None:
    (tmp_path / "m.mlir").write_text(GRAPH)
    graph = read_graph(tmp_path / "m.mlir")
    losses = own_losses(graph, {"images": 0.0, "stem_Conv": 0.03, "body_Conv": 0.05, "sum_Add": 0.051})
    assert list(losses) == ["stem_Conv", "body_Conv"], "in the order of the network, without what loses little"
    assert losses == pytest.approx({"stem_Conv": 0.03, "body_Conv": 0.04})
    assert [operation.name for operation in named_operators(graph, ["sum", "stem"])] == ["sum_Add", "stem_Conv"]
