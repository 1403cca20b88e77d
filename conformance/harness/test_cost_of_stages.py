"""Cost of the harness's own stages relative to the bare work, on one thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conformance.support.heads import make_heads
from conformance.support.output_folders import dataset, write_image
from harness.cards import ModelCard, load_model_card
from harness.centernet.decode import decode, to_image_space
from harness.centernet.preprocess import place, preprocess
from harness.exchange.inputs import write_raw
from harness.exchange.output_folder import detect_outputs, open_outputs
from harness.run.speed import time_ratio
from harness.types import Detections, Float32, Heads, UInt8

pytestmark = pytest.mark.perf

PREPROCESS_LIMIT = 1.35
DECODE_LIMIT = 1.7
WRITE_LIMIT = 1.25
SCORE_LIMIT = 1.6
OUTPUTS = 40
TOP_K = 100


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return load_model_card("dla_34")


@pytest.fixture(scope="module")
def photo() -> UInt8:
    low = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return cv2.resize(low, (640, 480))


@pytest.fixture(scope="module")
def heads() -> Heads:
    """Heads as a trained network has them: low everywhere, with some dozens of peaks."""
    random = np.random.default_rng(0)
    hm = random.normal(-6, 0.8, (1, 80, 128, 128)).astype(np.float32)
    hm[0, random.integers(0, 80, 60), random.integers(0, 128, 60), random.integers(0, 128, 60)] += 6
    wh = random.uniform(2, 40, (1, 2, 128, 128)).astype(np.float32)
    return make_heads(hm, wh, random.random((1, 2, 128, 128), np.float32))


def bare_preprocess(card: ModelCard, image: UInt8) -> Float32:
    matrix = place(card, (640, 480)).forward
    mean = [255 * value for value in card.input.mean]
    blob: Float32 = cv2.dnn.blobFromImage(cv2.warpAffine(image, matrix, (512, 512)), 1 / 73, mean=mean)
    return blob


def bare_decode(hm: Float32) -> Float32:
    score = 1 / (1 + np.exp(-hm))
    window = np.ones((3, 3), np.uint8)
    highest = np.stack([cv2.dilate(plane, window) for plane in score])
    peaks = score[score == highest]
    best: Float32 = np.partition(peaks, len(peaks) - TOP_K)[-TOP_K:]
    return best


def whole_decode(card: ModelCard, heads: Heads) -> Detections:
    return to_image_space(card, decode(card, heads)[0], place(card, (640, 480)))


def test_preprocess_costs_little_over_warp_and_blob(benchmark: BenchmarkFixture, card: ModelCard, photo: UInt8) -> None:
    ratio = time_ratio(lambda: preprocess(card, photo), lambda: bare_preprocess(card, photo), pairs=40, repeat=5)
    benchmark.extra_info.update(limit=PREPROCESS_LIMIT, image="640x480", threads=1, ratio=str(ratio))
    benchmark.pedantic(preprocess, (card, photo), rounds=50, warmup_rounds=5)
    assert ratio.low <= PREPROCESS_LIMIT, str(ratio)


def test_decode_costs_little_over_its_bare_parts(benchmark: BenchmarkFixture, card: ModelCard, heads: Heads) -> None:
    ratio = time_ratio(lambda: whole_decode(card, heads), lambda: bare_decode(heads["hm"][0]), pairs=40, repeat=2)
    benchmark.extra_info.update(limit=DECODE_LIMIT, heads="80x128x128", threads=1, ratio=str(ratio))
    benchmark.pedantic(whole_decode, (card, heads), rounds=50, warmup_rounds=5)
    assert ratio.low <= DECODE_LIMIT, str(ratio)


def test_writing_inputs_costs_little_more_than_their_bare_writes(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((3, 512, 512), np.float32)
    names = [f"{index:012}.bin" for index in range(8)]

    def stage() -> None:
        for name in names:
            write_raw(tmp_path / name, image)

    def bare() -> None:
        for name in names:
            with (tmp_path / name).open("wb", buffering=0) as file:
                file.write(image.data)

    ratio = time_ratio(stage, bare, pairs=40)
    benchmark.extra_info.update(limit=WRITE_LIMIT, files="8 of 3 MiB", ratio=str(ratio))
    benchmark.pedantic(stage, rounds=10, warmup_rounds=1)
    assert ratio.low <= WRITE_LIMIT, str(ratio)


def test_scoring_outputs_costs_little_more_than_to_read_and_decode_them(
    benchmark: BenchmarkFixture, card: ModelCard, heads: Heads, tmp_path: Path
) -> None:
    """Two threads each; what is beside is finding, checking and collecting."""
    stems = [f"{index:012}" for index in range(OUTPUTS)]
    for index, stem in enumerate(stems):
        write_image(tmp_path / "out", stem, {**heads, "hm": heads["hm"] + np.float32(index / 1024)})
    images = dataset(tmp_path, stems)

    def read(stem: str) -> Detections:
        files = (np.fromfile(tmp_path / "out" / f"{stem}_{index}.bin", np.float32) for index in range(3))
        hm, wh, reg = (values.reshape(1, -1, 128, 128) for values in files)
        return whole_decode(card, make_heads(hm, wh, reg))

    def bare() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read, stems))

    def stage() -> None:
        detect_outputs(open_outputs(card, images, tmp_path / "out"))

    ratio = time_ratio(stage, bare, pairs=20)
    benchmark.pedantic(stage, rounds=5, warmup_rounds=1)
    rate = OUTPUTS / benchmark.stats.stats.median
    benchmark.extra_info.update(limit=SCORE_LIMIT, images_per_second=rate, threads=2, ratio=str(ratio))
    assert ratio.low <= SCORE_LIMIT, str(ratio)


def test_a_stage_that_is_slower_than_its_limit_would_fail(card: ModelCard, heads: Heads) -> None:
    """The gate itself: four times the work is told from the limit."""

    def four_times() -> None:
        for _ in range(4):
            bare_decode(heads["hm"][0])

    ratio = time_ratio(four_times, lambda: bare_decode(heads["hm"][0]), pairs=20)
    assert ratio.low > DECODE_LIMIT
