"""Files and texts of the drivers of Ascend's tools: tables, codes, configurations, command lines."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from conformance.support.small_model import small_card
from harness.cards import load_device_card, load_model_card
from harness.cards.device import CARDS
from harness.centernet.preprocess import preprocess
from harness.convert.ascend.aipp import aipp_config, pixel_card
from harness.convert.ascend.atc import AtcRequest, arguments, find_atc, out_nodes
from harness.convert.ascend.bundle import choose_soc, to_toml, write_bundle
from harness.convert.ascend.codes import explain, explain_status
from harness.convert.ascend.npu_smi import parse_npu_smi
from harness.devices.ascend import output_places
from harness.errors import HarnessError

README_OF_THE_RECIPE = """\
+-------------------+-----------------+------------------------------------------------------+
| NPU Name | Health | Power(W) Temp(C) Hugepages-Usage(page) |
| Chip Device | Bus-Id | AICore(%) Memory-Usage(MB) |
+===================+=================+======================================================+
| 0 310P3 | OK | 15.8 42 0 / 0 |
| 0 0 | 0000:82:00.0 | 0 1074 / 21534 |
+===================+=================+======================================================+
| 1 310P3 | OK | 15.4 43 0 / 0 |
| 0 1 | 0000:89:00.0 | 0 1070 / 21534 |
+===================+=================+======================================================+
"""
NEWER = """\
[INFO] a line of a log
+--------------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc3                                 Version: 24.1.rc3                                      |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 5       310P3                 | Warning         | 16.1         44                3    / 3              |
| 0       3                     | 0000:05:00.0    | 0            1100 / 21534                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| 5       0                     | 4711            | python3                  | 120                       |
+===============================+=================+======================================================+
"""
MODULE = """\
| 0       {name:<22}| Alarm           | 8.1          44                15    / 15             |
| 0       0                     | NA              | 0            1200 / 3513                             |
"""


def test_chips_are_read_from_the_table_of_every_driver() -> None:
    old, new, module = (parse_npu_smi(text) for text in (README_OF_THE_RECIPE, NEWER, MODULE.format(name="310B4")))
    found = [(npu.card, npu.device, npu.soc, npu.health) for npu in old]
    assert found == [(0, 0, "Ascend310P3", "OK"), (1, 1, "Ascend310P3", "OK")]
    assert [(npu.card, npu.device, npu.soc, npu.health) for npu in new] == [(5, 3, "Ascend310P3", "Warning")]
    assert [(npu.device, npu.soc, npu.health) for npu in module] == [(0, "Ascend310B4", "Alarm")]


@pytest.mark.parametrize("name", ["310B", "310P"])
def test_chip_without_its_digit_is_refused_with_the_reason(name: str) -> None:
    (npu,) = parse_npu_smi(MODULE.format(name=name))
    with pytest.raises(HarnessError, match=f"'{name}', and --soc_version needs the digit.*{name}1 does not run on"):
        _ = npu.soc


@pytest.mark.parametrize("text", ["", "dcmi module initialize failed. ret is -8005", "| 0 0 | NA | 0 |"])
def test_table_without_a_chip_is_an_error(text: str) -> None:
    with pytest.raises(HarnessError, match="shows no chip"):
        parse_npu_smi(text)


@pytest.mark.parametrize(
    ("text", "code", "remedy"),
    [
        ("EZ9010: No parser is registered for Op [/conv1, optype [ai.onnx::17::Conv]].", "EZ9010", "opset 9 to 16"),
        ("E19010: No parser is registered for Op [x, optype [ai.onnx::11::MMCV]].", "E19010", "as DeformableConv2D"),
        ("E16005: The model has [2] [--domain_version] fields, but only one is allowed.", "E16005", "export again"),
        ("E10016: Opname [Conv_1120] specified in [--out_nodes] is not found in the model", "E10016", "this very file"),
        ("E10001: Value [-1] ... maybe you should set input_shape to specify", "E10001", "input's own name"),
        ("E10001: Value [x] for parameter [--log] is invalid", "E10001", "correct the argument"),
        ("[TID:9] EE1001: Soc version [Ascend310B4] is invalid", "EE1001", "npu-smi info"),
        ("load model from file failed, ret is 500002", "500002", "convert it again"),
        ("EZ3003: No supported Ops kernel and engine are found for [x], optype [Y]", "EZ3003", "package"),
    ],
)
def test_error_code_is_explained_with_its_remedy(text: str, code: str, remedy: str) -> None:
    (explained,) = explain(f"ATC start working now\n{text}\nATC run failed")
    assert explained.code == code
    assert remedy in explained.remedy


def test_codes_are_explained_once_in_the_order_of_the_log_and_others_are_not() -> None:
    text = "EZ9999: inner\nE10016: a\nE10016: b\nE100160: no code, nor is XE19005 or 1500002"
    assert [one.code for one in explain(text)] == ["EZ9999", "E10016"]
    assert explain("") == ()


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *((500002, "cannot be loaded"), (107002, "the call is wrong"), (207001, "a resource is missing")),
        *((300001, "the task failed"), (507011, "CANN itself failed")),
    ],
)
def test_status_of_a_call_is_told_by_its_first_digit_where_nothing_more_is_known(status: int, meaning: str) -> None:
    assert meaning in explain_status(status).meaning


def test_aipp_has_the_constants_of_the_vendors_own_centernet() -> None:
    config = aipp_config(load_model_card("dla_34"))
    values = {name: float(value) for name, value in re.findall(r"(\w+_\d): (\S+)", config)}
    lows, factors = (104.01362025, 114.03422265, 119.9165958), (0.0135864458301306, 0.0143080305720977, 0.01410137373)
    for channel in range(3):
        assert values[f"min_chn_{channel}"] == pytest.approx(lows[channel], rel=1e-6)
        assert values[f"var_reci_chn_{channel}"] == pytest.approx(factors[channel], rel=1e-6)
    for line in ("aipp_mode: static", "input_format: RGB888_U8", "rbuv_swap_switch: true", "src_image_size_w: 512"):
        assert f"  {line}\n" in config


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_aipp_of_the_pixels_is_what_preprocessing_gives(order: str) -> None:
    normalised = {"scale": 1 / 255, "mean": (0.4, 0.45, 0.47), "std": (0.29, 0.27, 0.28)}
    card = small_card(image={"channel_order": order, **normalised})
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    config = aipp_config(card)
    values = {name: float(value) for name, value in re.findall(r"(\w+_\d): (\S+)", config)}
    pixels, _ = preprocess(pixel_card(card), image)
    chip = pixels[..., ::-1] if "rbuv_swap_switch: true" in config else pixels
    planes = [(chip[..., i] - values[f"min_chn_{i}"]) * values[f"var_reci_chn_{i}"] for i in range(3)]
    np.testing.assert_allclose(np.stack(planes), preprocess(card, image)[0], atol=2e-6)


def test_aipp_is_refused_where_nothing_is_normalised() -> None:
    with pytest.raises(HarnessError, match="AIPP takes the place"):
        aipp_config(small_card(image={"dtype": "uint8"}))


def test_card_of_an_om_with_aipp_reads_back_as_it_was(tmp_path: Path) -> None:
    card = pixel_card(load_model_card("dla_34"))
    (tmp_path / "card.toml").write_text(to_toml(card))
    assert load_model_card(str(tmp_path / "card.toml")) == card


def model(path: Path, names: tuple[str, ...] = ("Conv_949", "Conv_952", "Conv_955")) -> Path:
    """Write a graph of one convolution for each head."""
    tensor = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.zeros((2, 3, 1, 1), np.float32), "w")
    heads = ("hm", "wh", "reg")
    nodes = [onnx.helper.make_node("Conv", ["actual_input", "w"], [h], n) for h, n in zip(heads, names, strict=True)]
    sides = ["batch", 2, 64, 96]
    given = [tensor("actual_input", 1, ["batch", 3, 64, 96])]
    graph = onnx.helper.make_graph(nodes, "g", given, [tensor(head, 1, sides) for head in heads], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def test_command_line_of_atc_is_the_recipes_with_the_names_of_this_very_file(tmp_path: Path) -> None:
    order = AtcRequest(model(tmp_path / "CenterNet.onnx"), Path("CenterNet_bs4"), "Ascend310P3", 4, Path("aipp.cfg"))
    assert arguments(order) == [
        "--framework=5", f"--model={tmp_path}/CenterNet.onnx", "--output=CenterNet_bs4", "--input_format=NCHW",
        "--input_shape=actual_input:4,3,64,96", "--out_nodes=Conv_949:0;Conv_952:0;Conv_955:0",
        "--log=info", "--soc_version=Ascend310P3", "--insert_op_conf=aipp.cfg",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("", "", ""), ("/hm/a", "/wh:b", "/reg/c")])
def test_outputs_are_named_where_nodes_cannot_be(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert out_nodes(onnx.load(model(tmp_path / "m.onnx", names))) == ["hm", "wh", "reg"]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("PartitionedCall_/x/Conv_9_1:0:output1", "Conv_6_1:0:output2", "Conv_3_1:0:output3"), (0, 1, 2)),
        (("Conv_9:0:output1", "Conv_3:0:output3", "Conv_6:0:output2"), (1, 2, 0)),
        ((), (0, 1, 2)),
    ],
)
def test_outputs_of_an_om_are_found_by_the_nodes_in_their_names(
    names: tuple[str, ...], places: tuple[int, ...]
) -> None:
    assert output_places(("Conv_3:0", "Conv_6:0", "Conv_9:0"), names) == places


def test_toolkit_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    with pytest.raises(HarnessError, match="no atc on the PATH, and ASCEND_TOOLKIT_HOME is not set"):
        find_atc()
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    with pytest.raises(HarnessError, match="the toolkit has no atc"):
        find_atc()
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/sh", tmp_path / "bin" / "atc")
    assert find_atc() == tmp_path / "bin" / "atc"


def test_soc_is_the_devices_own() -> None:
    card = load_device_card(CARDS / "ascend310b.toml")
    assert choose_soc(card, None) == "Ascend310B1"
    assert choose_soc(card, "Ascend310B4") == "Ascend310B4"
    with pytest.raises(HarnessError, match="'Ascend310P3' is no soc of device 'ascend310b'"):
        choose_soc(card, "Ascend310P3")
    with pytest.raises(HarnessError, match="device 'onnxruntime' is no chip of Ascend"):
        choose_soc(load_device_card(CARDS / "onnxruntime.toml"), None)


PUBLISHED = {
    "ascend310": {1: 17.25},
    "ascend310p": {1: 32.1448, 4: 34.1512, 8: 33.0343, 16: 33.6273, 32: 31.8843},
    "ascend310b": {1: 6.743, 4: 6.61, 8: 6.72, 16: 6.6, 32: 6.65},
}


@pytest.mark.parametrize("device", PUBLISHED)
def test_published_speeds_stand_on_the_cards(device: str) -> None:
    card = load_device_card(CARDS / f"{device}.toml")
    speeds = {size: card.published_fps(load_model_card("dla_34"), "fp16", size) for size in PUBLISHED[device]}
    assert speeds == PUBLISHED[device]
    assert {one.ap for one in card.published} <= {0.364, None}


def test_script_hands_names_of_tensors_over_as_they_are(tmp_path: Path) -> None:
    """A shell that runs ``convert.sh`` makes nothing of a name; atc, here a stand-in, gets every argument whole."""
    touched, output = tmp_path / "touched", f"$(touch {tmp_path / 'touched'})"
    node = onnx.helper.make_node("Relu", ["images:0"], [output], name=f"`touch {touched}`")
    values = [onnx.helper.make_tensor_value_info(name, 1, (1, 3, 32, 32)) for name in ("images:0", output)]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(made, tmp_path / "model.onnx")
    chip = load_device_card(CARDS / "ascend310p.toml")
    write_bundle(small_card(), tmp_path / "model.onnx", tmp_path / "bundle", chip, soc="Ascend310P3", batch_size=1)
    listing = f'for one; do echo "$one"; done > {tmp_path}/arguments'
    (tmp_path / "atc").write_text(f"#!/bin/sh\n{listing}\necho om > small-310p3-bs1.om\n")
    (tmp_path / "atc").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "convert.sh"], cwd=tmp_path / "bundle", env=environment, check=True)
    given = (tmp_path / "arguments").read_text().splitlines()
    assert "--input_shape=images:0:1,3,32,32" in given
    assert [one for one in given if one.startswith("--out_nodes=")] == [f"--out_nodes={output}"]
    assert not touched.exists()
