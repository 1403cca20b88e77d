"""Heads and decisions are compared one by one: what is beyond its limit is found and named, and nothing else is."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conformance.support.decode_cases import card_with
from conformance.support.heads import make_heads
from harness.cards import ModelCard
from harness.cards.tolerances import load_tolerance
from harness.checks.comparison import Comparison
from harness.checks.detections import compare_decisions
from harness.checks.heads import compare_heads
from harness.checks.limits import head_scales
from harness.errors import HarnessError
from harness.types import Heads

Place = tuple[int, ...]

CLASSES, SIDE = 3, 8
ALLOWED = {"hm": 1e-3, "wh": 2e-3, "reg": 5e-4}
NAMES = st.sampled_from(["hm", "wh", "reg"])
PLACES = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, SIDE - 1), st.integers(0, SIDE - 1))
"""(sample, channel, y, x) in every head."""


def card(top_k: int = 100) -> ModelCard:
    return card_with(classes=CLASSES, size=(4 * SIDE, 4 * SIDE), top_k=top_k)


def heads(samples: int = 2, seed: int = 0) -> Heads:
    random = np.random.default_rng(seed)
    shapes = ((samples, channels, SIDE, SIDE) for channels in (CLASSES, 2, 2))
    return make_heads(*(random.normal(0, 1, shape).astype(np.float32) for shape in shapes))


def changed(of: Heads, name: str, place: Place, by: float) -> Heads:
    head = of[name].astype(np.float64)
    head[place] += by
    return {**of, name: head}


def problems(comparisons: list[Comparison]) -> list[Comparison]:
    return [comparison for comparison in comparisons if comparison.problem is not None]


@given(name=NAMES, place=PLACES, share=st.floats(-3, 3))
def test_one_value_beyond_what_its_head_is_allowed_is_found(name: str, place: Place, share: float) -> None:
    assume(abs(abs(share) - 1) > 1e-6)
    golden = heads()
    found = compare_heads(changed(golden, name, place, share * ALLOWED[name]), golden, ALLOWED, "here")
    assert [comparison.what for comparison in found] == [
        f"here, head {head}, sample {number}" for head in ("hm", "wh", "reg") for number in (0, 1)
    ]
    assert all(comparison.allowed == ALLOWED[comparison.what.split()[2].rstrip(",")] for comparison in found)
    wrong = problems(found)
    if abs(share) < 1:
        assert wrong == []
        return
    [only] = wrong
    assert only.what == f"here, head {name}, sample {place[0]}"
    assert only.measured == pytest.approx(abs(share) * ALLOWED[name])
    assert f"worst at (channel, y, x) {place[1:]}: expected " in str(only)
    assert re.search(r"measured \S+, allowed \S+, \d+ values", str(only))


@given(name=NAMES, value=st.sampled_from([np.nan, np.inf, -np.inf]), golden_side=st.booleans())
def test_what_is_not_finite_fails_on_either_side(name: str, value: float, golden_side: bool) -> None:
    good, bad = heads(), changed(heads(), name, (1, 0, 2, 3), value)
    [only] = problems(compare_heads(*((good, bad) if golden_side else (bad, good)), ALLOWED, "here"))
    assert (only.what, only.measured) == (f"here, head {name}, sample 1", math.inf)
    assert "1 of " in str(only)
    assert "NaN or infinite" in str(only)
    assert ("on the side that it is compared with" in str(only)) == golden_side


def test_equal_infinities_do_not_cancel() -> None:
    bad = changed(heads(), "wh", (0, 0, 0, 0), np.inf)
    assert len(problems(compare_heads(bad, bad, ALLOWED, "here"))) == 1


@given(name=NAMES, cut=st.integers(0, 3))
def test_shape_that_broadcasts_is_not_the_same_shape(name: str, cut: int) -> None:
    golden = heads()
    index = tuple(slice(0, 1) if axis == cut else slice(None) for axis in range(4))
    fewer = {**golden, name: golden[name][index]}
    [only] = problems(compare_heads(fewer, golden, ALLOWED, "here"))
    assert (only.what, only.count) == (f"here, head {name}", 0)
    assert f"expected shape {golden[name].shape}, got {fewer[name].shape}" in str(only)


def test_comparison_of_nothing_fails() -> None:
    empty = heads(samples=0)
    found = compare_heads(empty, empty, ALLOWED, "here")
    assert len(problems(found)) == len(found) == 3
    assert all("nothing to compare" in str(comparison) for comparison in found)


def test_missing_head_fails() -> None:
    golden = heads()
    fewer = {name: head for name, head in golden.items() if name != "reg"}
    for pair in ((fewer, golden), (golden, fewer)):
        [only] = compare_heads(*pair, ALLOWED, "here")
        assert str(only) == "here, heads: only one side has: reg"


@given(length=st.integers(1, 10**5), scale=st.floats(1e-3, 1e3), size=st.floats(0.1, 100), error=st.floats(0, 1e-2))
def test_allowance_follows_its_formula(length: int, scale: float, size: float, error: float) -> None:
    tolerance = load_tolerance("fp32")
    unit = tolerance.unit_roundoff * math.sqrt(length)
    assert tolerance.unit_roundoff == 2**-24
    assert tolerance.allowed(length, scale) == pytest.approx(tolerance.factor * unit * scale)
    exact = np.full((1, 1, 2, 2), size)
    rounded = exact + np.array([[error, -error], [0, 0]])
    scales = head_scales(make_heads(rounded, rounded, None), make_heads(exact, exact, None), tolerance, length)
    assert scales == {name: pytest.approx(max(size, error / unit), rel=1e-6) for name in ("hm", "wh")}


def test_precision_without_a_tolerance_is_refused_by_name() -> None:
    with pytest.raises(HarnessError, match="precision 'int4' is not supported yet"):
        load_tolerance("int4")


PEAKS = {(0, 1, 1): 3.0, (1, 2, 5): 2.0, (2, 6, 3): 1.0, (0, 6, 6): 0.9}
"""(channel, y, x): logit; the rest is far below."""


def peaked(peaks: dict[tuple[int, int, int], float]) -> Heads:
    hm = np.full((1, CLASSES, SIDE, SIDE), -9.0)
    for place, value in peaks.items():
        hm[0][place] = value
    return make_heads(hm, np.full((1, 2, SIDE, SIDE), 2.0), np.full((1, 2, SIDE, SIDE), 0.5))


def decisions(device: Heads, top_k: int = 3) -> Comparison:
    [only] = compare_decisions(card(top_k=top_k), device, peaked(PEAKS), ALLOWED, "here")
    return only


def test_same_decisions_pass() -> None:
    found = decisions(peaked(PEAKS))
    assert (found.problem, found.count, found.measured) == (None, 3, 0.0)


def test_lost_and_new_detections_are_counted() -> None:
    other = peaked({**PEAKS, (1, 2, 5): -9.0, (2, 0, 0): 2.5})
    assert decisions(other).problem == "1 detections of the reference are lost, 1 are new"


def test_no_detection_where_the_reference_has_some_fails() -> None:
    silent = peaked({})["hm"] - 2000.0  # scores of exactly 0 are no detections
    found = decisions(make_heads(silent, *list(peaked({}).values())[1:]))
    assert found.problem == "3 detections of the reference are lost, 0 are new"
    assert found.measured == math.inf


def test_last_place_may_change_within_the_margin_of_the_scores_only() -> None:
    """The scores of ranks 3 and 4 are 0.0201 apart; the margin is half of what the logits may differ by."""
    golden, swapped = peaked(PEAKS), peaked({**PEAKS, (2, 6, 3): 0.9, (0, 6, 6): 1.0})
    for margin, expected in ((0.021, None), (0.019, "1 detections of the reference are lost, 1 are new")):
        [found] = compare_decisions(card(top_k=3), swapped, golden, {**ALLOWED, "hm": 2 * margin}, "here")
        assert (found.problem, found.count) == (expected, 2)


def test_only_place_is_held_like_any_other() -> None:
    other = peaked({**PEAKS, (0, 1, 1): 1.5})
    assert decisions(other, top_k=1).problem == "1 detections of the reference are lost, 1 are new"


def test_peak_beside_a_nearly_equal_neighbour_may_move_to_it() -> None:
    golden, moved = peaked({(0, 3, 3): 2.0, (0, 3, 4): 1.9999}), peaked({(0, 3, 3): 1.9999, (0, 3, 4): 2.0})
    for hm, expected in ((1e-2, None), (1e-6, "1 detections of the reference are lost, 1 are new")):
        [found] = compare_decisions(card(), moved, golden, {**ALLOWED, "hm": hm}, "here")
        assert found.problem == expected


def test_ridge_that_falls_into_more_peaks_may_push_out_the_last_ones() -> None:
    """Within what the heatmap is allowed, one peak becomes three, and of four places two are left for the others."""
    others = {(0, 1, 1): 3.0, (2, 6, 3): 1.0, (1, 6, 6): 0.5}
    ridge = [(1, 3, x) for x in range(1, 6)]
    one = dict(zip(ridge, (1.9996, 1.9998, 2.0, 1.9998, 1.9996), strict=True))
    three = dict(zip(ridge, (2.0, 1.9998, 2.0, 1.9998, 2.0), strict=True))
    [found] = compare_decisions(card(top_k=4), peaked({**others, **three}), peaked({**others, **one}), ALLOWED, "here")
    assert (found.problem, found.count) == (None, 2)


@pytest.mark.parametrize(("name", "factor"), [("wh", 4.0), ("reg", 4.0)])
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_boxes_are_held_to_pixels(name: str, factor: float, share: float) -> None:
    limit = 4 * (ALLOWED["wh"] / 2 + ALLOWED["reg"]) + 1e-3  # half of a width goes to either side
    by = share * limit / factor * (2 if name == "wh" else 1)
    found = decisions(changed(peaked(PEAKS), name, (0, 0, 2, 5), by))
    assert found.allowed == pytest.approx(limit)
    assert found.measured == pytest.approx(share * limit, rel=1e-2)
    assert (found.problem is None) == (share < 1)
    if share > 1:
        assert found.problem == f"a box has moved by {found.measured:.3g} pixels of the network input"
