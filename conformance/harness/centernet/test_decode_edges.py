"""Decoding in cases that the official code leaves open: ties, borders, few peaks, invalid values and shapes."""

import numpy as np
import pytest

from conformance.support.decode_cases import card_with, points_of
from conformance.support.heads import make_heads
from harness.centernet.decode import NonFiniteHeadError, decode
from harness.errors import HarnessError


def cells_with(values: dict[tuple[int, int], float], **changes: object) -> list[tuple[int, int]]:
    """Detect in an 8x8 map of -5 with these values; return (row, column)."""
    hm = np.full((1, 8, 8), -5, np.float32)
    for cell, value in values.items():
        hm[0][cell] = value
    return points_of(hm, **changes)[1]


def test_scores_are_the_sigmoid_to_float32() -> None:
    logits = np.linspace(-87, 20, 128 * 64).astype(np.float32)
    hm = np.full((128, 16, 16), -100, np.float32)
    hm[:, ::2, ::2] = logits.reshape(128, 8, 8)
    found, _ = points_of(hm, top_k=len(logits))
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-logits[::-1].astype(np.float64))), rtol=2e-7)


def test_equal_scores_come_by_class_then_row_then_column() -> None:
    hm = np.full((2, 8, 8), -5, np.float32)
    for peak in ((1, 0, 0), (0, 4, 2), (0, 2, 6), (0, 2, 4), (1, 7, 7)):
        hm[peak] = 1
    hm[1, 4, 4] = 2
    found, cells = points_of(hm, top_k=5)
    assert found.classes.tolist() == [1, 0, 0, 0, 1]
    assert cells == [(4, 4), (2, 4), (2, 6), (4, 2), (0, 0)]


@pytest.mark.parametrize(("earlier", "later"), [(17.0, 30.0), (20.0, 1e30), (16.0, np.nextafter(np.float32(16), 20))])
def test_logits_that_float32_scores_make_equal_rank_by_place(earlier: float, later: float) -> None:
    assert cells_with({(1, 1): earlier, (6, 6): later}, top_k=1) == [(1, 1)]


def test_neighbours_whose_scores_saturate_are_both_peaks() -> None:
    assert cells_with({(3, 3): 18.0, (3, 4): 40.0}, score_threshold=0.5) == [(3, 3), (3, 4)]
    assert cells_with({(3, 3): 10.0, (3, 4): 11.0}, score_threshold=0.5) == [(3, 4)]


@pytest.mark.parametrize("cell", [(0, 0), (0, 7), (7, 0), (7, 7), (0, 3), (3, 0), (7, 3), (3, 7)])
def test_cells_at_the_border_are_peaks_by_the_neighbours_they_have(cell: tuple[int, int]) -> None:
    inner = (min(max(cell[0], 1), 6), min(max(cell[1], 1), 6))
    across = (7 - cell[0], cell[1]) if cell[0] in (0, 7) else (cell[0], 7 - cell[1])
    assert cells_with({cell: 2.0, across: 3.0}, score_threshold=0.5) == [across, cell]
    assert cells_with({cell: 2.0, inner: 3.0}, score_threshold=0.5) == [inner]


def test_fewer_peaks_are_fewer_detections() -> None:
    slope = np.add.outer(np.arange(8), np.arange(8)).astype(np.float32)
    assert points_of(slope[None])[1] == [(7, 7)]


def test_a_score_at_the_threshold_is_dropped() -> None:
    values = {(1, 1): 0.5, (4, 4): 0.25, (6, 6): np.nextafter(np.float32(0.25), 1), (6, 1): 0.125}
    assert cells_with(values, activation="probability", score_threshold=0.25) == [(1, 1), (6, 6)]


def test_a_score_of_zero_is_no_detection() -> None:
    found, _ = points_of(np.full((3, 8, 8), -1000, np.float32))
    assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["hm", "wh", "reg"])
def test_a_value_that_is_not_finite_is_an_error_that_names_head_and_sample(head: str, value: float) -> None:
    heads = {"hm": np.zeros((3, 2, 8, 8)), "wh": np.ones((3, 2, 8, 8)), "reg": np.zeros((3, 2, 8, 8))}
    heads[head][1, 1, 7, 0] = value
    with pytest.raises(NonFiniteHeadError, match=f"head {head} of sample 1 holds 1 value"):
        decode(card_with(classes=2, size=(32, 32)), heads)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_heads_of_other_precision_are_decoded_in_float32_and_left_alone(dtype: type) -> None:
    card, rng = card_with(classes=2, size=(32, 32)), np.random.default_rng(3)
    heads = make_heads(*(rng.normal(0, 1, (2, 2, 8, 8)).astype(np.float16).astype(dtype) for _ in range(3)))
    before = [head.copy() for head in heads.values()]
    found = decode(card, heads)
    single = {name: head.astype(np.float32) for name, head in heads.items()}
    for one, other in zip(found, decode(card, single), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
    for head, copy in zip(heads.values(), before, strict=True):
        np.testing.assert_array_equal(head, copy)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"hm": (1, 3, 8, 8)}, "head hm has shape"),
        ({"hm": (2, 8, 8)}, "head hm has shape"),
        ({"hm": (1, 2, 16, 16), "wh": (1, 2, 16, 16), "reg": (1, 2, 16, 16)}, "head hm has shape"),
        ({"wh": (1, 4, 8, 8)}, "head wh has shape"),
        ({"reg": (2, 2, 8, 8)}, "head reg has shape"),
        ({"reg": None}, "gives the heads hm, wh; its card says hm, wh, reg"),
    ],
)
def test_heads_that_are_not_what_the_card_says_are_an_error(shapes: dict[str, tuple[int, ...]], complaint: str) -> None:
    stated = {"hm": (1, 2, 8, 8), "wh": (1, 2, 8, 8), "reg": (1, 2, 8, 8), **shapes}
    heads = {name: np.zeros(shape) for name, shape in stated.items() if shape is not None}
    with pytest.raises(HarnessError, match=complaint):
        decode(card_with(classes=2, size=(32, 32)), heads)
