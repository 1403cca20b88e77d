"""ONNX files of strangers: weights that are said to lie elsewhere, and tensors that no memory holds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.devices import memory
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked
from harness.export.onnx_file import load_onnx, onnx_sha256

pytestmark = pytest.mark.export


def model(*nodes: onnx.NodeProto, weights: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y"))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def with_weights_beside(folder: Path, changes: dict[str, str]) -> Path:
    """Write a model whose weights lie in ``weights.bin``, with other statements of where they lie."""
    path = folder / "model.onnx"
    whole = model(helper.make_node("Add", ["x", "w"], ["y"]), weights={"w": np.ones((1, 3, 8, 8), np.float32)})
    onnx.save(whole, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    stated = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry.value for entry in stated.graph.initializer[0].external_data} | changes
    del stated.graph.initializer[0].external_data[:]
    for key, value in entries.items():
        stated.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(stated.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"location": "/etc/passwd"}, "outside the folder"),
        ({"location": "../weights.bin"}, "outside the folder"),
        ({"location": ""}, "outside the folder"),
        ({"location": "none.bin"}, "no regular file lies beside it for its weights: 'none.bin'"),
        ({"location": "pipe"}, "no regular file lies beside it for its weights: 'pipe'"),
        ({"location": "w" * 5000}, "no regular file lies beside it"),
        ({"location": "a\0b"}, "no regular file lies beside it"),
        ({"location": "link"}, "link"),
        ({"offset": "-8"}, "offset must be non-negative"),
        ({"offset": str(2**62)}, "exceeds file size"),
        ({"length": str(2**70)}, "exceeds available data"),
        ({"offset": "x"}, "invalid literal"),
        ({}, "exceeds available data"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_weights_beside_an_onnx_are_whole_files_below_its_folder(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    path = with_weights_beside(tmp_path, changes)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    if not changes:
        os.truncate(tmp_path / "weights.bin", 10)
    with pytest.raises(HarnessError, match=rf"model\.onnx: cannot read the ONNX: .*{said}.*\n  remedy: "):
        load_onnx_checked(path)


def test_weights_beside_an_onnx_are_read_and_count_in_its_hash(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path, {})
    [weights] = load_onnx(path).graph.initializer
    assert (numpy_helper.to_array(weights) == 1).all()
    before = onnx_sha256(path)
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert onnx_sha256(path) != before


def constant_of(*sides: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(*nodes, weights={"s": np.array(sides, np.int64)})


def huge_initializer() -> onnx.ModelProto:
    made = model(helper.make_node("Add", ["x", "w"], ["y"]), weights={"w": np.ones((1, 3, 8, 8), np.float32)})
    made.graph.initializer[0].dims[:] = [2**40]
    return made


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: constant_of(2**20, 2**20), "z: one tensor of the model takes 4.0 TiB, and this machine has "),
        (huge_initializer, "not a valid ONNX model: "),
    ],
    ids=["4 TB", "initializer"],
)
def test_tensor_that_no_memory_holds_is_named_before_it_is_made(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], said: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(HarnessError, match=rf"model\.onnx: {said}"):
        load_onnx_checked(tmp_path / "model.onnx")


def test_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max", tmp_path / "none"))
    memory.machine_memory.cache_clear()
    try:
        with pytest.raises(HarnessError, match=r"it takes 1\.0 GiB, and this machine has 0\.0 GiB of memory"):
            memory.require_memory(2**30, "it")
        (tmp_path / "memory.max").write_text("max\n")
        memory.machine_memory.cache_clear()
        memory.require_memory(2**20, "it")
    finally:
        memory.machine_memory.cache_clear()


@pytest.mark.parametrize("name", ["pipe.onnx", "/dev/zero"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(HarnessError, match=r"cannot read the ONNX: it is a (named pipe|device node)"):
        load_onnx_checked(tmp_path / name)


def test_suffix_of_a_file_does_not_change_its_form(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (tmp_path / "model.json").write_bytes(constant_of(1).SerializeToString())
        assert len(load_onnx_checked(tmp_path / "model.json").graph.node) == 3
