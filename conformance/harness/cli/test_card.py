"""`card`: writes a draft, says every finding, and refuses with status 4 and nothing written what is no CenterNet."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from conformance.support.coloured import coloured_card, coloured_network, write_coloured_images
from conformance.support.command_line import run
from conformance.support.stranger_onnx import Stranger, rewritten
from harness.cards import load_model_card

HOSTILE = "x\x1b[2J\nverdict: conforms"


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coloured_images(tmp_path_factory.mktemp("coloured") / "coco", 4)


def saved(folder: Path, model: ModelProto) -> Path:
    path = folder / "port.onnx"
    onnx.save(model, path)
    return path


def network(inputs: dict[str, list[int | str]], output: list[int | str], kind: int = TensorProto.FLOAT) -> ModelProto:
    """A model that adds its inputs up and gives a constant beside."""
    given = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    size = numpy_helper.from_array(np.array(output, np.int64), "size")
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["out"])]
    nodes += [helper.make_node("Identity", [name], [f"{name}/same"]) for name in inputs]
    made = helper.make_tensor_value_info("out", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes, "g", given, [made], [size])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_draft_is_written_and_every_finding_is_said(tmp_path: Path, coco: Path) -> None:
    names = {"hm": HOSTILE, "wh": "b", "reg": "c"}
    port = saved(tmp_path, rewritten(coloured_network(), coloured_card(), Stranger(coloured_card().input, names)))
    output = tmp_path / "draft.toml"
    status, out, err = run("card", "--onnx", port, "--coco", coco, "--output", output)
    assert status == 0
    assert "Traceback" not in err
    assert load_model_card(output).output.names == (HOSTILE, "b", "c")
    assert "\x1b" not in out + err
    assert all(not line.startswith("verdict") for line in (out + err).splitlines())
    for field in ("input.name", "input.layout", "input.channel_order", "output.heads", "output.hm", "output.box_unit"):
        assert any(line.startswith(field) and "[" in line for line in out.splitlines()), field
    assert out.splitlines()[-1] == str(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft.toml", "port.onnx"]
    assert run("card", "--onnx", port, "--coco", coco, "--output", output)[0] == 0  # a draft may be replaced


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "classifier": (lambda: network({"x": [1, 3, 64, 64]}, [1, 1000]), "no CenterNet that the suite knows: for an"),
    "two inputs": (lambda: network({"x": [1, 3, 64, 64], "y": [1, 3, 64, 64]}, [1, 8, 16, 16]), "it has 2 inputs"),
    "rank": (lambda: network({"x": [1, 3, 64]}, [1, 8, 16, 16]), "has the shape (1, 3, 64)"),
    "channels": (lambda: network({"x": [1, 1, 64, 64]}, [1, 8, 16, 16]), "has the shape (1, 1, 64, 64)"),
    "sides": (lambda: network({"x": [1, 3, 60, 60]}, [1, 8, 15, 15]), "multiples of 32"),
    "dtype": (lambda: network({"x": [1, 3, 64, 64]}, [1, 8, 16, 16], TensorProto.INT64), "has the dtype int64"),
    "constant": (lambda: network({"x": [1, 3, 64, 64]}, [1, 8, 16, 16]), "no output looks like a heatmap"),
    "NHWC heads": (lambda: network({"x": [1, 3, 64, 64]}, [1, 16, 16, 7]), "they look like NHWC"),
    "large": (lambda: network({"x": [4096, 3, 16384, 16384]}, [1, 8, 16, 16]), "of memory"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_model_that_is_no_centernet_is_refused(tmp_path: Path, coco: Path, kind: str) -> None:
    make, said = REFUSED[kind]
    port = saved(tmp_path, make())
    status, out, err = run("card", "--onnx", port, "--coco", coco, "--output", tmp_path / "draft.toml")
    assert (status, out) == (4, "")
    assert said in err
    assert "\n  remedy: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["port.onnx"]


def test_files_that_cannot_be_read_or_written_are_errors(tmp_path: Path, coco: Path) -> None:
    port = saved(tmp_path, coloured_network())
    (tmp_path / "text.onnx").write_text("no ONNX")
    outside = onnx.load(port)
    onnx.save(outside, tmp_path / "outside.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    (tmp_path / "mine.toml").write_text("[tool]\n")
    before = sorted(tmp_path.iterdir())
    for onnx_file, output, said in (
        ("text.onnx", "draft.toml", "truncated or no ONNX"),
        ("none.onnx", "draft.toml", "No such file"),
        ("outside.onnx", "draft.toml", "no regular file lies beside it"),
        ("port.onnx", "mine.toml", "is not a draft of a card, and is not replaced"),
        ("port.onnx", "draft.txt", "ends in .toml"),
        ("port.onnx", "port.onnx/draft.toml", "port.onnx"),
    ):
        status, _, err = run("card", "--onnx", tmp_path / onnx_file, "--coco", coco, "--output", tmp_path / output)
        assert status == 4, err
        assert said in err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "mine.toml").read_text() == "[tool]\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    port, locked = saved(tmp_path, coloured_network()), tmp_path / "locked"
    locked.mkdir(mode=0o500)
    status, _, err = run("card", "--onnx", port, "--output", locked / "draft.toml")
    assert status == 4
    assert "remedy" in err


def test_no_images_to_try_are_an_error(tmp_path: Path, coco: Path) -> None:
    port = saved(tmp_path, coloured_network())
    status, _, err = run("card", "--onnx", port, "--coco", coco, "--limit", 0, "--output", tmp_path / "draft.toml")
    assert (status, "--limit" in err) == (4, True)
