"""Speeds that tools state are read from their own output, and what they count wrongly is put right."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cards import load_device_card, load_model_card
from harness.cards.device import CARDS
from harness.centernet.networks import create_model
from harness.centernet.networks.macs import gmacs
from harness.checks.speed import describe
from harness.errors import HarnessError
from harness.exchange.summary import find_summary, read_summary
from harness.exchange.tool_speed import from_perf_vision, from_printed, from_pure_inference, from_summary, read_speeds
from harness.run.speed import Speed

PRINTED = """\
[INFO] acl init success
\rloop inference exec: (20/20)[INFO] GE(4242,python3):2026-11-21 [model.cc:77]4242 throughput of memory: 12.5
[INFO] -----------------Performance Summary------------------
[INFO] NPU_compute_time (ms): min = 116.9, max = 118.2, mean = 117.12612, median = 117.1, percentile(99%) = 118.1
[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean(117.12612): 34.1512
[INFO] ------------------------------------------------------
"""
OLDER = "[INFO] throughput 1000*batchsize(1)/NPU_compute_time.mean(31.109): 32.14504\n"
NEWER = "Throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(31.109): 32.14504\n"
TWO_DEVICES = f"{OLDER}{OLDER}i:0 device_0 throughput:32.1 start_time:1.0\n[INFO] summary throughput:64.29\n"
PERF_VISION = """\
[e2e] throughputRate: 3.9, latency: 1282051
[data read] throughputRate: 4.4, moduleLatency: 227.3
[preprocess] throughputRate: 4.3, moduleLatency: 232.6
[infer] throughputRate: 4.2, Interface throughputRate: 4.3125, moduleLatency: 238.1
[post] throughputRate: 4.2, moduleLatency: 238.1
"""


@pytest.mark.parametrize(("text", "batch", "fps"), [(PRINTED, 4, 34.1512), (OLDER, 1, 32.14504), (NEWER, 1, 32.14504)])
def test_throughput_is_read_in_every_spelling_amid_the_lines_of_a_log(text: str, batch: int, fps: float) -> None:
    (speed,) = from_printed(text, "x.log")
    assert (speed.batch_size, speed.fps) == (batch, fps)


def test_speed_of_several_devices_is_their_sum_as_the_tool_states_it() -> None:
    speeds = from_printed(TWO_DEVICES, "x.log")
    assert [(speed.fps, speed.chips) for speed in speeds] == [(32.14504, 1), (32.14504, 1), (64.29, 2)]


def test_printed_figure_that_contradicts_its_line_is_refused_and_none_is_none() -> None:
    with pytest.raises(HarnessError, match=r"throughput 99 is not 1000 x 1 / 31\.109"):
        from_printed(OLDER.replace("32.14504", "99"), "x.log")
    assert from_printed("", "x.log") == ()


def summary(folder: Path, images: int, times: list[Any], *arguments: str, throughput: float | None = None) -> Path:
    """A summary of ais_bench beside ``out``."""
    samples = {str(i): {"infiles": [f"{i}.bin"], "outfiles": [f"result/out/{i}_0.bin"]} for i in range(images)}
    content = {"filesinfo": samples, "args": ["/x/ais_bench/__main__.py", *arguments], "npu_compute_time_list": times}
    path = folder / "out_summary.json"
    path.write_text(json.dumps(content if throughput is None else {**content, "throughput": throughput}))
    return path


def test_padded_slots_are_no_images_but_their_time_counts(tmp_path: Path) -> None:
    """bs16 over 5,000 images: 313 runs, 8 slots padded."""
    path = summary(tmp_path, 5000, [480.0] * 313, "--batchsize", "16")
    speed = from_summary(read_summary(path), 5000)
    assert speed is not None
    assert speed.fps == pytest.approx(5000 / (313 * 0.48))
    assert "8 padded slots are no images" in speed.interval


def test_repetitions_are_images_too_and_pairs_of_start_and_end_are_times(tmp_path: Path) -> None:
    path = summary(tmp_path, 3, [[10.0, 15.0]] * 8, "--batch-size=2", "--loop=4")
    speed = from_summary(read_summary(path), 3)
    assert speed is not None
    assert speed.fps == pytest.approx(1000 * 12 / 40)


def test_run_without_images_is_of_whole_batches(tmp_path: Path) -> None:
    path = summary(tmp_path, 0, [242.2] * 20, "--loop", "20", throughput=33.03)
    speed = from_summary(read_summary(path), None)
    assert speed is not None
    assert (speed.batch_size, round(speed.fps, 2)) == (8, 33.03)
    assert "without images" in speed.interval


def test_batch_size_that_is_not_the_oms_is_refused(tmp_path: Path) -> None:
    path = summary(tmp_path, 12, [5.0] * 12, "--batchsize", "4")
    with pytest.raises(HarnessError, match="12 executions for 12 images, and batches of 4 make 3"):
        from_summary(read_summary(path), 12)


def test_summary_is_found_wherever_the_tool_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert find_summary(tmp_path / "out") is None
    for place in ("out/sumary.json", "out/_summary.json", "out_summary.json"):
        (tmp_path / place).write_text('{"throughput": 3}')
        found = find_summary(tmp_path / "out")
        assert found is not None
        assert found.path.name == Path(place).name


def test_speed_of_benchmark_is_its_eighth_number_and_of_one_chip(tmp_path: Path) -> None:
    path = tmp_path / "perf_vision_batchsize_1_device_0.txt"
    path.write_text(PERF_VISION)
    speed = from_perf_vision(path)
    assert (speed.fps, speed.batch_size, speed.chips) == (4.3125, 1, 1)
    path.write_text(PERF_VISION.splitlines()[0])
    with pytest.raises(HarnessError, match="no performance file"):
        from_perf_vision(path)


@pytest.mark.parametrize("sign", [": ", " = "])
def test_latency_without_images_is_that_of_a_sample(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "PureInfer_perf_of_CenterNet_bs8_in_device_0.txt"
    path.write_text(f"ave_throughputRate{sign}323.826samples/s, ave_latency{sign}3.08851ms\n")
    speed = from_pure_inference(path)
    assert (speed.fps, speed.batch_size) == (323.826, 8)
    assert speed.batch_ms == pytest.approx((8 * 3.08809,), rel=1e-3)


def test_chips_of_a_card_are_counted_only_where_the_device_card_says_so() -> None:
    speed = Speed(4.3125, 1, (231.9,), "benchmark.x86_64", "execution")
    whole = {name: speed.of_card(load_device_card(CARDS / f"{name}.toml")) for name in ("ascend310", "ascend310p")}
    assert whole["ascend310"].fps == 17.25
    assert whole["ascend310p"] == speed
    line = describe(speed, load_device_card(CARDS / "ascend310.toml"), load_model_card("dla_34"))
    assert line == (
        "17.25 images/s at batch size 1; 4.312 a chip; benchmark.x86_64, times the 4 chips of a card: execution; "
        "published: 17.25; 3.6% of 8 TFLOPS a chip (33.0 GMAC an image; Huawei at its announcement, 2018-10: "
        "8 TFLOPS FP16, 16 TOPS INT8)"
    )


def test_every_speed_in_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    summary(tmp_path, 4, [117.12612], "--batchsize", "4")
    (tmp_path / "perf_vision_batchsize_1_device_0.txt").write_text(PERF_VISION)
    (tmp_path / "out" / "run.log").write_text(PRINTED)
    speeds = read_speeds((tmp_path / "out",), 4)
    assert [round(speed.fps, 4) for speed in speeds] == [34.1512, 34.1512, 4.3125]


@pytest.mark.parametrize(("name", "expected"), [("dla_34", 33.1), ("dlav0_34", 31.1)])
def test_multiplications_of_the_networks_are_those_of_the_recipes(name: str, expected: float) -> None:
    card = load_model_card(name)
    assert card.network is not None
    assert gmacs(create_model(card.network.arch), 512, 512) == pytest.approx(expected, rel=0.005)


def test_multiplications_are_counted_layer_by_layer() -> None:
    """Of the three 1x1 convolutions behind the 3x3 ones, by hand: a head of res_18 on a grid of 16x16."""
    network = create_model("res_18", {"hm": 80}, None, 1.0)
    smaller = create_model("res_18", {"hm": 40}, None, 1.0)
    assert (gmacs(network, 64, 64) - gmacs(smaller, 64, 64)) * 1e9 == pytest.approx(40 * 64 * 16 * 16)
