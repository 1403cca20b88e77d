"""Decoding: heads become the detections of the official code, in a defined order, whatever the heatmap."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conformance.support.decode_cases import card_with, points_of
from conformance.support.golden_inputs import oracle_heads
from conformance.support.heads import make_heads
from harness.cards import ModelCard
from harness.centernet.decode import decode, to_image_space
from harness.centernet.preprocess import place
from harness.paths import data_path
from harness.types import Float32, Float64, Heads

VARIANTS = list(product(["wh+reg", "ltrb"], [True, False], ["grid", "input"]))


def heatmap(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Make logits so far apart that one rounding more or less of the sigmoid does not reorder them."""
    ramp = np.arange(shape[-1]) + np.arange(shape[-2])[:, None]
    maps = {
        "noise": np.round(rng.normal(-4, 2, shape) * 256).clip(max=2048) / 256,
        "quantised": rng.integers(-3, 4, shape),
        "constant": np.full(shape, -2),
        "slope": np.broadcast_to(ramp / 32 - 4, shape),
        "plateaus": np.broadcast_to((ramp // 5 * 7) % 11 - 5, shape),
        "spikes": np.where(rng.random(shape) < 0.02, rng.integers(-4, 4, shape), -5),
        "saturated": rng.integers(10, 40, shape),
        "underflow": np.where(rng.random(shape) < 0.9, -1000, rng.integers(-80, -60, shape)),
    }
    return maps[kind].astype(np.float32)


KINDS = ["noise", "quantised", "constant", "slope", "plateaus", "spikes", "saturated", "underflow"]


def peaks_of(score: Float32, top_k: int, threshold: float) -> tuple[tuple[np.ndarray, ...], Float32]:
    """Find (class, row, column) and scores of the best peaks by a filter over all cells and a full sort."""
    highest = torch.nn.functional.max_pool2d(torch.from_numpy(score.copy())[None], 3, 1, 1)[0].numpy()
    classes, rows, columns = np.nonzero((score == highest) & (score > np.float32(threshold)))
    scores = score[classes, rows, columns]
    order = np.lexsort((columns, rows, classes, -scores))[:top_k]
    return (classes[order], rows[order], columns[order]), scores[order]


def official_sigmoid(hm: Float32) -> Float32:
    return torch.sigmoid(torch.from_numpy(hm.copy())).numpy()


def box_at(card: ModelCard, heads: Heads, sample: int, row: int, column: int) -> list[float]:
    """Compute one box, number by number."""
    unit = card.decode.stride if card.output.box_unit == "input" else 1
    size = [float(value) / unit for value in heads["wh"][sample, :, row, column]]
    shift = (0.5, 0.5) if card.output.box == "wh+reg" else (0.0, 0.0)
    if "reg" in heads:
        shift = (float(heads["reg"][sample, 0, row, column]), float(heads["reg"][sample, 1, row, column]))
    x, y = column + shift[0], row + shift[1]
    left, top, right, bottom = size if card.output.box == "ltrb" else [side / 2 for side in (*size, *size)]
    return [x - left, y - top, x + right, y + bottom]


def drawn(card: ModelCard, boxes: Float64, cells: np.ndarray, grid: tuple[int, int]) -> Heads:
    """Make heads that hold these (n, 2, 2) corners on the grid, the box of class i with the i-th best score."""
    hm = np.full((1, len(boxes), *grid), -9, np.float32)
    wh = np.zeros((1, card.head_channels["wh"], *grid), np.float32)
    reg = np.zeros((1, 2, *grid), np.float32)
    unit = 4 if card.output.box_unit == "input" else 1
    for index, ((first, last), (column, row)) in enumerate(zip(boxes, cells, strict=True)):
        centre = (first + last) / 2 if "reg" in card.output.heads else np.array([column, row])
        size = last - first if card.output.box == "wh+reg" else np.concatenate([centre - first, last - centre])
        hm[0, index, row, column] = 8 - index
        wh[0, :, row, column] = size * unit
        reg[0, :, row, column] = centre - (column, row)
    return make_heads(hm, wh, reg if "reg" in card.output.heads else None)


def test_detections_equal_the_official_code() -> None:
    golden = np.load(data_path("fixtures", "golden", "pipeline.npz"))["decode/raw"]
    for detections, expected in zip(decode(card_with(), oracle_heads()), golden, strict=True):
        np.testing.assert_allclose(detections.boxes, expected[:, :4], rtol=0, atol=1e-4)
        np.testing.assert_allclose(detections.scores, expected[:, 4], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(detections.classes, expected[:, 5])


@pytest.mark.parametrize(("sample", "image_size"), [(0, (640, 480)), (1, (426, 640))])
def test_boxes_in_the_image_equal_the_official_code(sample: int, image_size: tuple[int, int]) -> None:
    golden = np.load(data_path("fixtures", "golden", "pipeline.npz"))["decode/image_space"]
    expected = golden[golden[:, 0] == sample][:, 1:]
    card = card_with()
    found = to_image_space(card, decode(card, oracle_heads())[sample], place(card, image_size))
    rows = np.column_stack([found.classes + 1, found.boxes, found.scores])
    by_class = [part[np.lexsort((-part[:, 5], part[:, 0]))] for part in (rows, expected)]
    np.testing.assert_allclose(*by_class, rtol=0, atol=1e-4)


@given(
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(["logits", "probability"]),
    box=st.sampled_from(VARIANTS),
    classes=st.integers(1, 4),
    top_k=st.integers(1, 40),
    least=st.sampled_from([0.0, 0.05, 0.5]),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=300)
def test_detections_equal_a_plain_reading_of_the_standard(
    kind: str, activation: str, box: tuple[str, bool, str], classes: int, top_k: int, least: float, seed: int
) -> None:
    card = card_with(classes=classes, size=(32, 64), activation=activation, box=box, top_k=top_k, score_threshold=least)
    rng = np.random.default_rng(seed)
    logits = heatmap(kind, rng, (2, classes, 8, 16))
    wh = rng.uniform(0, 20, (2, card.head_channels["wh"], 8, 16)).astype(np.float32)
    reg = rng.random((2, 2, 8, 16)).astype(np.float32) if box[1] else None
    score = official_sigmoid(logits)
    heads = make_heads(logits if activation == "logits" else score, wh, reg)
    for sample, found in enumerate(decode(card, heads)):
        (expected, rows, columns), scores = peaks_of(score[sample], top_k, least)
        boxes = [box_at(card, heads, sample, row, column) for row, column in zip(rows, columns, strict=True)]
        assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int64)
        np.testing.assert_array_equal(found.classes, expected)
        np.testing.assert_allclose(found.scores, scores, rtol=3e-7, atol=0)
        np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_heatmap_of_full_size_is_decoded_wrongly(kind: str) -> None:
    logits = heatmap(kind, np.random.default_rng(1), (80, 128, 128))
    found, cells = points_of(logits)
    (classes, rows, columns), scores = peaks_of(official_sigmoid(logits), 100, 0)
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_array_equal(cells, np.column_stack([rows, columns]))
    np.testing.assert_allclose(found.scores, scores, rtol=3e-7)


@given(
    box=st.sampled_from([variant for variant in VARIANTS if variant[1] or variant[0] == "ltrb"]),
    geometry=st.sampled_from(["affine", "letterbox", "stretch", "keep_res"]),
    image_size=st.tuples(st.integers(8, 200), st.integers(8, 200)),
    corners=st.lists(st.tuples(*[st.floats(0, 0.9921875, width=32)] * 4), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=150)
def test_heads_drawn_from_boxes_give_the_boxes_back(
    box: tuple[str, bool, str], geometry: str, image_size: tuple[int, int], corners: list[tuple[float, ...]]
) -> None:
    placed = {"geometry": "affine", "keep_res": True} if geometry == "keep_res" else {"geometry": geometry}
    card = card_with(classes=len(corners), size=(64, 64), box=box, score_threshold=0.5, **placed)
    placement = place(card, image_size)
    points = np.sort(np.array(corners).reshape(-1, 2, 2), axis=1) * image_size
    on_grid = (points @ placement.forward[:, :2].T + placement.forward[:, 2]) / 4
    cells = np.floor(on_grid.mean(axis=1)).astype(int)
    assume(len(np.unique(cells, axis=0)) == len(cells))
    heads = drawn(card, on_grid, cells, (placement.input_size[1] // 4, placement.input_size[0] // 4))
    found = to_image_space(card, decode(card, heads)[0], placement)
    np.testing.assert_array_equal(found.classes, np.arange(len(corners)))
    np.testing.assert_allclose(found.boxes, points.reshape(-1, 4), rtol=0, atol=2e-3)
