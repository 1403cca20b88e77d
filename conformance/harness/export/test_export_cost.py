"""Processor time of an export of the whole network."""

import time
from pathlib import Path

import onnx
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.cards import load_model_card
from harness.centernet.networks import create_model
from harness.export import export_ascend

pytestmark = [pytest.mark.perf, pytest.mark.export]

LIMIT_S = 20.0


def test_whole_dla_34_is_exported_for_atc_in_time(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The limit is in seconds of the processor, which other programs on the machine do not change."""
    card = load_model_card("dla_34_ascend")
    network = create_model("dla_34", card.head_channels).eval().requires_grad_(False)
    started = time.process_time()

    def export() -> None:
        export_ascend(network, card, tmp_path / "dla_34.onnx", batch_size=None, weights_sha256="0" * 64)

    benchmark.pedantic(export, rounds=1)
    seconds = time.process_time() - started
    benchmark.extra_info.update(limit_s=LIMIT_S, processor_s=seconds)
    operators = [node.op_type for node in onnx.load(tmp_path / "dla_34.onnx").graph.node]
    assert operators.count("DeformableConv2D") == 16
    assert seconds <= LIMIT_S
