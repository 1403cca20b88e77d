"""Code of devices and variables of the environment are read as far as they are known."""

import json
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any, cast

from conformance.support.tiny import TinySetup
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.outputs import OutputsDevice
from harness.run.ingredients import declared, device_code, distribution_sha256, surroundings


def test_every_file_of_a_package_and_of_an_editable_tree_counts(tmp_path: Path) -> None:
    info, code = tmp_path / "chip-1.dist-info", tmp_path / "chip.py"
    info.mkdir()
    code.write_text("a = 1")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chip\nVersion: 1\n")
    found = PathDistribution(info)
    assert distribution_sha256(found) is None  # its files are not known
    (info / "RECORD").write_text("chip.py,,\n")
    hashes = [distribution_sha256(found)]
    code.write_text("a = 2")
    hashes.append(distribution_sha256(found))
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "kernel.so").write_bytes(b"1")
    (info / "direct_url.json").write_text(json.dumps({"url": tree.as_uri(), "dir_info": {"editable": True}}))
    hashes.append(distribution_sha256(found))
    (tree / "deep" / "kernel.so").write_bytes(b"2")
    hashes.append(distribution_sha256(found))
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_bytes(b"3")
    hashes.append(distribution_sha256(found))
    assert None not in hashes
    assert len(set(hashes)) == 4
    assert hashes[-1] == hashes[-2]


def test_devices_made_in_code_and_folders_of_outputs_are_not_stored(tiny: TinySetup, tmp_path: Path) -> None:
    device = OnnxRuntimeDevice()
    assert device_code("onnxruntime", device) == "own"
    assert device_code("made in code", device) is None
    folder = OutputsDevice(tmp_path, None, tiny.model_card, lambda: cast(Any, None))
    assert device_code("onnxruntime", folder) is None


def test_declared_variables_are_those_of_the_names() -> None:
    given = {"OMP_A": "1", "OMP": "2", "XOMP_B": "3", "CHIP": "4", "CHIP_X": "5"}
    assert declared(["OMP_*", "CHIP"], given) == {"OMP_A": "1", "CHIP": "4"}
    card = OnnxRuntimeDevice().card
    assert "CHIP" not in cast(Any, surroundings(card, given)["variables"])
    told = card.model_copy(update={"environment": ("CHIP",)})
    assert cast(Any, surroundings(told, given)["variables"])["CHIP"] == "4"
