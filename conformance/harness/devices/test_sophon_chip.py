"""Sophon's chips through a stand-in for `sophon.sail`: found or said to be missing, fed and read right."""

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from conformance.support.stand_ins import tpu_mlir as fake_tpu_mlir
from harness.centernet.heads import DeviceOutputError, check_contract, read_heads
from harness.devices.artifact import Artifact, Exported
from harness.devices.base import Device
from harness.devices.registry import create_device
from harness.errors import HarnessError
from harness.export import export_decomposed
from harness.types import Float32

Arrays = dict[str, NDArray[Any]]
CHANNELS = {"hm": 80, "wh": 2, "reg": 2}


class Engine:
    """One bmodel on a chip: gives of each sample its mean, in buffers of its own, by names and in an order of its own.

    Args:
        bmodel: Its path.
        tpu: Number of the chip.
        mode: Where the tensors lie.
    """

    made: list["Engine"]
    drops: tuple[str, ...] = ()

    def __init__(self, bmodel: str, tpu: int, mode: object) -> None:
        self.arguments = (Path(bmodel).is_file(), tpu, mode)
        self.fed: list[tuple[str, Arrays]] = []
        self.buffers: Arrays = {}
        Engine.made.append(self)

    def get_graph_names(self) -> list[str]:
        return ["m"]

    def process(self, network: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """As the real one, refuse what it would change in place."""
        (images,) = inputs.values()
        assert images.flags.c_contiguous
        self.fed.append((network, dict(inputs)))
        for head in ("wh", "reg", "hm"):
            buffer = self.buffers.setdefault(f"{head}_Conv", np.empty((len(images), CHANNELS[head], 16, 24), "f4"))
            buffer[:] = images.mean((1, 2, 3))[:, None, None, None] + CHANNELS[head]
        return {name: buffer for name, buffer in self.buffers.items() if name not in self.drops}


@pytest.fixture
def sail(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The vendor's module, with one chip."""
    module = types.SimpleNamespace(
        get_available_tpu_num=lambda: 1, Engine=Engine, IOMode=types.SimpleNamespace(SYSIO="system memory")
    )
    monkeypatch.setitem(sys.modules, "sophon", types.ModuleType("sophon"))
    monkeypatch.setitem(sys.modules, "sophon.sail", module)
    monkeypatch.setattr(Engine, "made", [], raising=False)
    monkeypatch.setattr(Engine, "drops", ())
    return module


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    return export_decomposed(tiny_network(), small_card(), path, batch_size=2, weights_sha256=SHA256)


@pytest.fixture
def converted(
    sail: types.SimpleNamespace, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Device, Artifact, Engine]:
    """A model that a chip has loaded."""
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path))
    fake_tpu_mlir.install(tmp_path)
    device = create_device("bm1684x")
    artifact = device.convert(exported, 2, "fp32")
    [engine] = Engine.made
    return device, artifact, engine


@pytest.mark.parametrize("name", ["bm1684", "bm1684x"])
def test_host_without_the_vendors_runtime_is_told_of_the_simulator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sophon", None)
    with pytest.raises(HarnessError, match=f"'{name}' needs Sophon's runtime, and sophon.sail cannot be imp") as caught:
        create_device(name).check()
    assert f"--device {name}:simulated" in (caught.value.remedy or "")


def test_host_without_a_chip_is_told_of_the_simulator(sail: types.SimpleNamespace) -> None:
    create_device("bm1684x").check()
    sail.get_available_tpu_num = lambda: 0
    with pytest.raises(HarnessError, match=r"sophon\.sail finds no TPU on this host") as caught:
        create_device("bm1684x").check()
    assert "--device bm1684x:simulated" in (caught.value.remedy or "")


def test_bmodel_is_loaded_once_into_the_first_chip_with_tensors_in_host_memory(
    converted: tuple[Device, Artifact, Engine],
) -> None:
    device, artifact, engine = converted
    assert engine.arguments == (True, 0, "system memory")
    check_contract(small_card(), artifact, 2)
    for _ in range(2):
        device.run(artifact, small_images(2))
    assert len(Engine.made) == 1


@pytest.mark.parametrize("form", ["contiguous", "transposed", "every other"])
def test_chip_is_fed_by_name_what_it_was_given_whose_array_stays_as_it_is(
    converted: tuple[Device, Artifact, Engine], form: str
) -> None:
    device, artifact, engine = converted
    images: Float32 = {
        "contiguous": small_images(2),
        "transposed": np.ascontiguousarray(small_images(2).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "every other": small_images(4)[::2],
    }[form]
    before, strides = images.copy(), images.strides
    device.run(artifact, images)
    [(network, inputs)] = engine.fed
    assert (network, list(inputs)) == ("m", ["input"])
    np.testing.assert_array_equal(inputs["input"], before)
    np.testing.assert_array_equal(images, before)
    assert images.strides == strides


def test_outputs_are_copies_in_the_models_order_and_by_its_names(converted: tuple[Device, Artifact, Engine]) -> None:
    device, artifact, _ = converted
    first, second = small_images(2), small_images(2) + 1
    found = device.run(artifact, first)
    device.run(artifact, second)  # which the engine puts where the first outputs were
    assert list(found) == ["hm", "wh", "reg"]
    for head, channels in CHANNELS.items():
        expected = np.broadcast_to(first.mean((1, 2, 3))[:, None, None, None] + channels, (2, channels, 16, 24))
        np.testing.assert_allclose(found[head], expected, rtol=1e-6)


def test_output_that_does_not_come_is_a_deviation(
    converted: tuple[Device, Artifact, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, artifact, _ = converted
    monkeypatch.setattr(Engine, "drops", ("wh_Conv",))
    with pytest.raises(DeviceOutputError, match="expected outputs named hm, wh, reg, got hm, reg"):
        read_heads(small_card(), device.run(artifact, small_images(2)), 2)
