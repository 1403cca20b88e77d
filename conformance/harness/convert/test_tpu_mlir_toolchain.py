"""Sophon's own compiler and simulators on a small network: inputs arrive, and outputs come back right."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from harness.cards import ModelCard
from harness.centernet.heads import check_contract, read_heads
from harness.centernet.ops import DCNv2
from harness.convert.tpu_mlir.bmodel import read_bmodel
from harness.convert.tpu_mlir.environment import find_environment
from harness.data.calibration import Calibration
from harness.data.dataset import load_coco
from harness.data.synthetic import load_spec, materialise
from harness.devices.artifact import Artifact, Exported
from harness.devices.registry import create_device
from harness.devices.sophon import SimulatedSophon, require_chip
from harness.errors import HarnessError
from harness.export import export_decomposed, export_standard
from harness.paths import cache_path, data_path
from harness.types import Heads

pytestmark = pytest.mark.toolchain

ALLOWED = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.15}
"""Allowed difference as a share of each head's largest magnitude, for a network of five layers."""
CHIPS = [("bm1684", "fp32"), ("bm1684x", "fp32"), ("bm1684x", "fp16"), ("bm1684x", "bf16")]

Compile = Callable[..., tuple[SimulatedSophon, Artifact]]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile the tiny network for a chip."""

    def once(
        chip: str, precision: str, card: ModelCard | None = None, size: int = 1, calibration: Calibration | None = None
    ) -> tuple[SimulatedSophon, Artifact]:
        device = create_device(f"{chip}:simulated")
        assert isinstance(device, SimulatedSophon)
        path, card = tmp_path / "tiny.onnx", card or small_card()
        exported = export_decomposed(tiny_network(), card, path, batch_size=size, weights_sha256=SHA256)
        return device, device.convert(replace(exported, calibration=calibration), size, precision)

    return once


def assert_heads(got: Heads, expected: dict[str, np.ndarray[Any, Any]], allowed: float) -> None:
    for name, head in got.items():
        difference = float(np.abs(head - expected[name]).max() / np.abs(expected[name]).max())
        assert difference <= allowed, f"{name}: off by {difference:.2e} of its magnitude, allowed {allowed:.0e}"


def golden(images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with torch.inference_mode():
        return {name: head.numpy() for name, head in tiny_network()(torch.from_numpy(images)).items()}


def test_offsets_of_the_small_network_really_move() -> None:
    network, moved = tiny_network(), []
    (dcn,) = (module for module in network.modules() if isinstance(module, DCNv2))
    dcn.conv_offset_mask.register_forward_hook(lambda _, __, output: moved.append(output[:, :18].abs()))
    network(torch.from_numpy(small_images(1)))
    assert float(moved[0].median()) > 0.5


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize(("chip", "precision"), CHIPS)
def test_simulated_heads_equal_the_network(compiled: Compile, chip: str, precision: str, slots: int) -> None:
    device, artifact = compiled(chip, precision, size=slots)
    images = small_images(slots)
    check_contract(small_card(), artifact, slots)
    heads = read_heads(small_card(), device.run(artifact, images), slots)
    assert_heads(heads, golden(images), ALLOWED[precision])


def test_heads_in_one_tensor_come_back_as_the_recipe_has_them(compiled: Compile) -> None:
    output = {"names": ("40",), "concatenated": True}
    card = small_card(output=output, image={"name": "input.1"})
    device, artifact = compiled("bm1684x", "fp32", card)
    assert [(spec.name, spec.shape) for spec in artifact.inputs] == [("input.1", (1, 3, 64, 96))]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("40", (1, 84, 16, 24))]
    heads = read_heads(card, device.run(artifact, small_images(1)), 1)
    assert_heads(heads, golden(small_images(1)), ALLOWED["fp32"])


def test_sampling_leaves_bm1684_and_stays_on_bm1684x(compiled: Compile) -> None:
    assert compiled("bm1684", "fp32")[1].findings.host_operators == ("grid_sampler",)
    assert compiled("bm1684x", "fp32")[1].findings.host_operators == ()


def test_int8_takes_its_ranges_from_images_and_keeps_grid_and_heads_in_float(compiled: Compile, tmp_path: Path) -> None:
    card = small_card(image={"scale": 1 / 255, "mean": (0.4, 0.45, 0.47), "std": (0.29, 0.27, 0.28)})
    dataset = load_coco(materialise(load_spec(), "val", tmp_path, limit=4))
    device, artifact = compiled("bm1684x", "int8", card, calibration=Calibration(card, dataset, 4))
    kept = artifact.executed["kept in float"]
    assert int(kept.split()[0]) > 4, kept
    heads = read_heads(card, device.run(artifact, small_images(1)), 1)
    assert all(np.isfinite(head).all() for head in heads.values())
    assert_heads(heads, golden(small_images(1)), 0.5)  # quantised, and no other network


def test_an_operator_that_the_compiler_refuses_is_named(tmp_path: Path) -> None:
    device = create_device("bm1684x:simulated")
    native = export_standard(tiny_network(), small_card(), tmp_path / "n.onnx", batch_size=1, weights_sha256=SHA256)
    with pytest.raises(HarnessError, match=r"the tool has no operator 'DeformConv'") as raised:
        device.convert(Exported(small_card(), "decomposed", path=native.path), 1, "fp32")
    kept = Path(str(raised.value.remedy).rpartition(" ")[2])
    assert "DeformConv" in kept.read_text(encoding="utf-8")


def test_a_bmodel_for_another_chip_is_refused(compiled: Compile) -> None:
    payload: Any = compiled("bm1684", "fp32")[1].payload
    stated = read_bmodel(find_environment(), payload.file)
    with pytest.raises(HarnessError, match="the bmodel is for bm1684, and the device is bm1684x"):
        require_chip(stated, "bm1684x", payload.file)


def test_a_file_that_is_no_bmodel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bmodel"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(HarnessError, match=r"model\.bmodel"):
        read_bmodel(find_environment(), path)


KILLED = """
import sys
from pathlib import Path
from conformance.support.small_model import SHA256, small_card, tiny_network
from harness.devices.registry import create_device
from harness.export import export_decomposed
path = Path(sys.argv[1])
exported = export_decomposed(tiny_network(), small_card(), path, batch_size=3, weights_sha256=SHA256)
create_device("bm1684x:simulated").convert(exported, 3, "fp32")
"""


def test_a_conversion_that_is_killed_leaves_no_entry_and_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchains = cache_path() / "toolchains"
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path))
    (tmp_path / "toolchains").symlink_to(toolchains)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "t.onnx")]
    with subprocess.Popen(command, cwd=data_path(), start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("bmodel/.*/work/m.mlir")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    entries = [path for path in (tmp_path / "bmodel").iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert entries == []
    subprocess.run(command, cwd=data_path(), check=True)
    left = [path for path in (tmp_path / "bmodel").iterdir() if path.is_dir()]
    assert [path.name.startswith(".") for path in left] == [False]


@pytest.mark.parametrize(("chip", "precision"), CHIPS)
def test_interpreter_gives_what_the_simulator_gives(
    compiled: Compile, tmp_path: Path, chip: str, precision: str
) -> None:
    device, artifact = compiled(chip, precision)
    emulated = create_device(f"{chip}:emulated")
    exported = Exported(small_card(), "decomposed", path=tmp_path / "tiny.onnx")
    lowered = emulated.convert(exported, 1, precision)
    for image in small_images(8)[:, None]:
        simulated = read_heads(small_card(), device.run(artifact, image), 1)
        # Products are summed up in another order; in low precision a sum may then fall on the other side of a step.
        assert_heads(read_heads(small_card(), emulated.run(lowered, image), 1), simulated, ALLOWED[precision] / 10)
