"""Figures in files of strangers: what is no number, or none that a figure can be, is an error of that file."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.support.small_model import small_card
from harness.errors import HarnessError
from harness.exchange import heads
from harness.exchange.claim import read_claim
from harness.exchange.heads import read_heads_file
from harness.exchange.speed_log import read_speed_log
from harness.exchange.summary import read_summary
from harness.exchange.tool_speed import from_printed, from_pure_inference, from_summary

LOG = '{"batch_size": 1, "fps": FPS, "batches": [{"images": 1, "start_ms": 0, "enqueued_ms": 1, "done_ms": DONE}]}'
Read = Callable[[Path], object]


def log(fps: str = "100", done: str = "10") -> str:
    return LOG.replace("FPS", fps).replace("DONE", done)


def summary(**content: object) -> str:
    return json.dumps({"filesinfo": {}, "npu_compute_time_list": [1.0], **content})


def speed_of_summary(path: Path) -> object:
    return from_summary(read_summary(path), 1)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_speed_log, log(done="Infinity"), "batches.0.done_ms: .*finite"),
        (read_speed_log, log(done="1e400"), "batches.0.done_ms: "),
        (read_speed_log, log(fps="1e400"), "fps: "),
        (read_speed_log, log(fps="NaN"), "fps: "),
        (read_speed_log, log().replace('"images": 1', f'"images": {2**70}'), "batches.0.images: "),
        (read_claim, '{"AP": NaN}', "AP: AP cannot be nan"),
        (read_claim, '{"AP": Infinity}', "AP: AP cannot be inf"),
        (read_claim, '{"AP": 36.4}', "AP: AP cannot be 36.4"),
        (read_claim, '{"images": 1e400}', "images: images cannot be inf"),
        (read_claim, f'{{"AP": 1{"0" * 400}}}', "AP: AP cannot be 1"),
        (read_claim, DEEP, "no readable JSON: nested too deep"),
        (read_summary, DEEP, "no summary of ais_bench: nested too deep"),
        (read_summary, summary(throughput=float("inf")), "no summary of ais_bench: a time or speed of inf"),
        (
            read_summary,
            summary(npu_compute_time_list=[math.nan]),
            "no summary of ais_bench: a time or speed of nan",
        ),
        (read_summary, summary(npu_compute_time_list=[[5.0]]), "no summary of ais_bench: "),
        (speed_of_summary, summary(args=["x", "--batchsize", "0"]), "the batch size is said to be '0'"),
        (speed_of_summary, summary(args=["x", "--batchsize", "many"]), "the batch size is said to be 'many'"),
        (speed_of_summary, summary(args=["x", "--batchsize", "1", "--loop", "-1"]), "--loop is said to be '-1'"),
        (speed_of_summary, summary(throughput=1e-9), "the batch size is said to be '0'"),
        (from_pure_inference, "ave_throughputRate: 1e400", "no performance file"),
        (
            lambda path: from_printed(path.read_text(), path.name),
            "throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(0): 5",
            "throughput 5 is not 1000 x 1 / 0",
        ),
    ],
)
def test_figure_that_cannot_be_is_named(tmp_path: Path, read: Read, text: str, said: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(HarnessError, match=f"file: {said}"):
        read(tmp_path / "file")


@pytest.mark.parametrize("read", [read_speed_log, read_claim, read_summary, from_pure_inference])
def test_named_pipe_does_not_hang(tmp_path: Path, read: Read) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(HarnessError, match="file: cannot be read: it is a named pipe"):
        read(tmp_path / "file")


def test_heads_that_unpack_to_more_than_any_image_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays: dict[str, Any] = {name: np.zeros(10_000) for name in ("hm", "wh", "reg")}
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    monkeypatch.setattr(heads, "HEADS_BYTES", 100_000)
    with pytest.raises(HarnessError, match=r"a\.npz: no readable \.npz file: its arrays have more than 100000 bytes"):
        read_heads_file(small_card(), tmp_path / "a.npz")
