"""Readers of text take whatever Hypothesis makes: they return, or raise an error with file and remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cards import load_device_card, load_model_card
from harness.data.dataset import read_instances
from harness.data.detections import read_coco_json
from harness.errors import HarnessError
from harness.exchange.claim import read_claim
from harness.exchange.speed_log import read_speed_log
from harness.exchange.summary import read_summary
from harness.exchange.tensors import read_file
from harness.exchange.tool_speed import from_perf_vision, from_printed, from_pure_inference
from harness.report.baseline import read_document

KEYS = (
    "images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "bbox", "score", "AP", "fps",
    "batches", "batch_size", "start_ms", "filesinfo", "outfiles", "args", "npu_compute_time_list", "throughput",
    "schema", "runs", "stages", "verdict", "model", "environment", "data", "name", "input", "output", "network",
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=20,
)
JSON = VALUES.map(lambda value: json.dumps(value).encode())
WORDS = st.sampled_from(
    ("[", "]", "=", '"', "\n", " ", ":", "throughputRate: ", "ave_throughputRate = ", "name", "1", ".")
)
TEXT = st.lists(WORDS | st.text(max_size=4) | st.floats().map(repr), max_size=40).map(
    lambda parts: "".join(parts).encode()
)


def read_printed(file: Path) -> object:
    return from_printed(file.read_text("utf-8", "replace"), file.name)


def read_decimals(file: Path) -> object:
    return read_file(file, "float32")


def refusal(read: Callable[[Path], object], file: Path) -> HarnessError | None:
    try:
        read(file)
    except HarnessError as error:
        return error
    return None


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "annotations": ("a.json", read_instances),
    "results": ("rows.json", read_coco_json),
    "claim": ("claim.json", read_claim),
    "speed log": ("speed.json", read_speed_log),
    "summary": ("summary.json", read_summary),
    "document": ("results.json", read_document),
    "model card": ("card.toml", load_model_card),
    "device card": ("chip.toml", load_device_card),
    "perf_vision": ("perf_vision_batchsize_1_device_0.txt", from_perf_vision),
    "PureInfer": ("PureInfer_perf_of_m.txt", from_pure_inference),
    "printed": ("run.log", read_printed),
    "decimals": ("0_0.txt", read_decimals),
    "values": ("0_0.npy", read_decimals),
}


@pytest.mark.fuzz
@pytest.mark.parametrize("name", READERS)
def test_readers_return_or_refuse(tmp_path: Path, name: str) -> None:
    file, read = tmp_path / READERS[name][0], READERS[name][1]

    @settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300) | JSON | TEXT)
    def try_one(content: bytes) -> None:
        file.write_bytes(content)
        error = refusal(read, file)
        if error is not None:
            assert file.name in error.message()
            assert error.remedy

    try_one()
