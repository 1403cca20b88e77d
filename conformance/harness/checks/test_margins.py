"""One rule says what detections may differ by: no right port is accused by it, and it is attained."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.decode_cases import card_with
from conformance.support.heads import make_heads
from harness.cards import ModelCard
from harness.centernet.decode import decode, to_image_space
from harness.centernet.preprocess import place
from harness.checks.comparison import Comparison
from harness.checks.detections import compare_decisions, judge_detections, table_of_rows
from harness.checks.margins import BOX_ALLOWED, CORNER_ROUNDED, SCORE_ALLOWED, SCORE_ROUNDED, Margins
from harness.types import Heads, Placement

CELLS = 8
ALLOWED = {"hm": 0.02, "wh": 0.4, "reg": 0.05}
"""So large that rounding is next to nothing."""
CARDS = [
    card_with(
        classes=3, size=(CELLS * stride,) * 2, activation=activation, box=(box, has_reg, unit), stride=stride, top_k=9,
        geometry=geometry, keep_res=keep_res,
    )
    for activation, box, unit in itertools.product(("logits", "probability"), ("wh+reg", "ltrb"), ("grid", "input"))
    for has_reg, stride, geometry, keep_res in (
        (True, 4, "affine", False), (False, 8, "letterbox", False), (True, 8, "stretch", False),
        (True, 4, "affine", True),
    )
]  # fmt: skip
ANY_CARD = pytest.mark.parametrize("card", CARDS, ids=lambda c: f"{c.output.hm}-{c.output.box}-{c.output.box_unit}-"
                                   f"{c.decode.stride}-{'keep' if c.input.keep_res else c.input.geometry}")  # fmt: skip
Shift = dict[str, float]


def placed(card: ModelCard) -> Placement:
    """An image larger than the input; where it keeps its resolution, than the sides on the card, which do not apply."""
    return place(card, (63, 40) if card.input.keep_res else (150, 90))


def cells(card: ModelCard) -> int:
    """Side of the output grid for that image."""
    return 2 * CELLS if card.input.keep_res else CELLS


def one_peak(card: ModelCard, score: float = 0.5) -> Heads:
    """Heads with one detection, its box in the middle of the grid; nothing else comes near it."""
    logits = card.output.hm == "logits"
    side = (cells(card),) * 2
    hm = np.full((1, 3, *side), -30.0 if logits else 0.0)
    hm[0, 1, 4, 4] = np.log(score / (1 - score)) if logits else score
    wh = np.full((1, card.head_channels["wh"], *side), 3.0 * (card.decode.stride if unit_of(card) == 1 else 1))
    return make_heads(hm, wh, np.full((1, 2, *side), 0.5) if "reg" in card.output.heads else None)


def unit_of(card: ModelCard) -> float:
    return 1.0 if card.output.box_unit == "input" else float(card.decode.stride)


def moved(heads: Heads, by: Shift) -> Heads:
    """Every value of some heads moved; hm only where the peak is."""
    peak = heads["hm"] == heads["hm"].max()
    return {name: values + by.get(name, 0.0) * (peak if name == "hm" else 1.0) for name, values in heads.items()}


def rows_of(card: ModelCard, heads: Heads) -> list[dict[str, Any]]:
    """The rows that a port with these heads writes: boxes with two decimals, scores with five."""
    found = to_image_space(card, decode(card, heads)[0], placed(card))
    corners = found.boxes.astype(np.float64)
    boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).round(2).tolist()
    scores = found.scores.astype(np.float64).round(5)
    rows = zip(np.array(card.category_ids)[found.classes], scores, boxes, strict=True)
    return [{"category_id": int(kind), "score": float(score), "bbox": box} for kind, score, box in rows]


def judged(card: ModelCard, device: Heads, golden: Heads, allowed: Mapping[str, float] = ALLOWED) -> list[Comparison]:
    """Heads against heads, and rows against heads."""
    [by_heads] = compare_decisions(card, device, golden, allowed, "x")
    return [by_heads, judge_detections(card, table_of_rows(rows_of(card, device)), golden, placed(card), allowed, "x")]


@given(
    card=st.sampled_from(CARDS),
    seed=st.integers(0, 2**32 - 1),
    near=st.booleans(),
    limits=st.fixed_dictionaries({"score_threshold": st.sampled_from([0.0, 0.5]), "top_k": st.integers(1, 100)}),
)
def test_no_port_within_its_limits_is_accused(card: ModelCard, seed: int, near: bool, limits: dict[str, float]) -> None:
    """Every value moves by all it may, up or down; with `near`, scores lie just there where an order hangs on it."""
    random = np.random.default_rng(seed)
    card = card.model_copy(update={"decode": card.decode.model_copy(update=limits)})
    shapes = {name: (1, channels, cells(card), cells(card)) for name, channels in card.head_channels.items()}
    golden = {name: random.normal(0, 2, shape) for name, shape in shapes.items()}
    if card.output.hm == "probability":
        golden["hm"] = random.uniform(0.1, 0.9, shapes["hm"])
    if near:
        golden["hm"] = np.round(golden["hm"] / ALLOWED["hm"] / 8) * ALLOWED["hm"] * 2
    moves = {name: ALLOWED[name] * random.choice([-1.0, 1.0], values.shape) for name, values in golden.items()}
    port = {name: (values + moves[name]).astype(np.float32) for name, values in golden.items()}
    golden = {name: values.astype(np.float32) for name, values in golden.items()}
    allowed = {name: float(np.abs(port[name].astype(np.float64) - golden[name]).max()) for name in golden}
    for comparison in judged(card, port, golden, allowed):
        assert comparison.problem is None, str(comparison)


@ANY_CARD
def test_margins_are_attained_to_a_few_per_cent(card: ModelCard) -> None:
    golden = one_peak(card)
    port, allowed = moved(golden, ALLOWED), {name: ALLOWED[name] for name in golden}
    margins, [ours], [theirs] = Margins.of_heads(card, allowed), decode(card, golden), decode(card, port)
    assert 0.97 < (theirs.scores[0] - ours.scores[0]) / (margins.score - SCORE_ROUNDED) < 1.001
    corners = np.abs(theirs.boxes - ours.boxes).max() * card.decode.stride
    assert 0.97 < corners / (margins.corner - CORNER_ROUNDED) < 1.001
    written = Margins.of_rows(card, allowed, placed(card))
    in_image = [to_image_space(card, one, placed(card)).boxes for one in (ours, theirs)]
    assert 0.97 < np.abs(in_image[1] - in_image[0]).max() / (written.corner - BOX_ALLOWED) < 1.001
    assert written.score - SCORE_ALLOWED == pytest.approx(margins.score - SCORE_ROUNDED)


@ANY_CARD
@pytest.mark.parametrize("heads", [("wh",), ("reg",), ("wh", "reg")], ids="+".join)
def test_a_box_that_is_wrong_by_half_more_than_it_may_is_found(card: ModelCard, heads: tuple[str, ...]) -> None:
    """As by no formula that takes a whole side for its half, or doubles what one of two sides alone can do."""
    golden, given_heads = one_peak(card), [name for name in heads if name in card.output.heads]
    allowed = {name: ALLOWED[name] if name in given_heads else 0.0 for name in ALLOWED}
    for share, found in ((0.99, False), (1.5, bool(given_heads))):
        port = moved(golden, {name: share * ALLOWED[name] for name in given_heads})
        [by_heads] = compare_decisions(card, port, golden, allowed, "x")
        by_rows = judge_detections(card, table_of_rows(rows_of(card, port)), golden, placed(card), allowed, "x")
        assert [one.problem is not None for one in (by_heads, by_rows)] == [found, found], (share, str(by_rows))


@ANY_CARD
def test_a_score_that_is_wrong_by_half_more_than_it_may_is_found_in_rows(card: ModelCard) -> None:
    golden = one_peak(card)
    for share, found in ((0.99, False), (1.5, True)):
        rows = rows_of(card, moved(golden, {"hm": share * ALLOWED["hm"]}))
        assert (
            judge_detections(card, table_of_rows(rows), golden, placed(card), ALLOWED, "x").problem is not None
        ) == found


@pytest.mark.parametrize("activation", ["logits", "probability"])
def test_a_score_against_the_threshold_hangs_on_its_own_difference_alone(activation: str) -> None:
    """Twice, as for the order of two scores, would excuse the loss of a detection that no right port loses."""
    card = card_with(classes=3, size=(4 * CELLS,) * 2, activation=activation, score_threshold=0.5)
    slope = 0.25 if activation == "logits" else 1.0
    for share, found in ((0.95, False), (1.5, True)):
        golden = one_peak(card, 0.5 + share * slope * ALLOWED["hm"])
        silent = one_peak(card, 0.4)
        assert [one.problem is not None for one in judged(card, silent, golden)] == [found, found]


@pytest.mark.parametrize("activation", ["logits", "probability"])
@pytest.mark.parametrize("beside", [True, False], ids=["neighbours", "last place"])
def test_the_order_of_two_scores_hangs_on_twice_the_difference_of_one(activation: str, beside: bool) -> None:
    card = card_with(classes=3, size=(4 * CELLS,) * 2, activation=activation, top_k=100 if beside else 1)
    place_of_other = (0, 1, 4, 5) if beside else (0, 2, 1, 1)
    for share, found in ((1.95, False), (2.5, True)):
        golden, port = one_peak(card), one_peak(card)
        golden["hm"][place_of_other] = golden["hm"][0, 1, 4, 4] - share * ALLOWED["hm"]
        port["hm"][place_of_other] = golden["hm"][0, 1, 4, 4]
        port["hm"][0, 1, 4, 4] = golden["hm"][place_of_other]
        [by_heads] = compare_decisions(card, port, golden, ALLOWED, "x")
        assert (by_heads.problem is not None) == found


@pytest.mark.parametrize("activation", ["logits", "probability"])
def test_of_equal_neighbours_in_its_own_heads_a_port_must_report_both(activation: str) -> None:
    """A tie is no close call there: every sigmoid keeps it, and the peak test with ">" loses both."""
    card = card_with(classes=3, size=(4 * CELLS,) * 2, activation=activation)
    heads = one_peak(card)
    heads["hm"][0, 1, 4, 5] = heads["hm"][0, 1, 4, 4]
    for rows, found in ((rows_of(card, heads), False), (rows_of(card, heads)[1:], True)):
        assert (judge_detections(card, table_of_rows(rows), heads, placed(card), {}, "x").problem is not None) == found
