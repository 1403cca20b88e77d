"""The interval of a ratio holds at every look, and the judgement is the side of the limit on which it lies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.slowdown import ALPHA, Slowdown, interval_of_median, judge_slowdown, least_count, slowdown_of


def averaged_likelihood_ratio(above: int, values: int) -> float:
    """By numerical integration over p in (1/2, 1], where the library has a sum."""
    p = (np.arange(20_000) + 0.5) / 40_000 + 0.5
    logs = above * np.log(p) + (values - above) * np.log1p(-p) + values * math.log(2)
    return float(np.exp(logs).mean())


@given(st.integers(1, 300))
def test_least_count_is_the_first_whose_likelihood_ratio_suffices(values: int) -> None:
    count = least_count(values)
    assert count > values / 2
    if count <= values:
        assert averaged_likelihood_ratio(count, values) >= (1 - 1e-4) / ALPHA
    assert averaged_likelihood_ratio(count - 1, values) < (1 + 1e-4) / ALPHA


def test_nine_of_nine_are_enough_and_eight_of_eight_are_not() -> None:
    assert (least_count(9), least_count(8)) == (9, 9)


@given(st.lists(st.floats(-1, 1), max_size=120))
def test_ends_of_the_interval_are_where_the_count_turns(values: list[float]) -> None:
    low, high = interval_of_median(values)
    count = least_count(len(values))
    assert sum(value >= low for value in values) >= count or low == -math.inf
    assert sum(value > low for value in values) < count
    assert interval_of_median([-value for value in values]) == (-high, -low)


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_false_alarms_at_any_of_300_looks_stay_below_the_level(heavy_tails: bool) -> None:
    """The limit is the true median, the worst case; the tails of the times are those of a machine that is busy."""
    random, trials, longest = np.random.default_rng(0), 2000, 300
    noise = random.standard_cauchy if heavy_tails else random.standard_normal
    above = np.cumsum(noise((trials, longest)) > 0, axis=1)
    needed = np.array([least_count(n) for n in range(1, longest + 1)])
    alarms = int((above >= needed).any(axis=1).sum())
    assert alarms <= ALPHA * trials
    naive = np.abs(above - np.arange(1, longest + 1) / 2) > 1.163 * np.sqrt(np.arange(1, longest + 1))
    assert naive[:, 20:].any(axis=1).mean() > 3 * ALPHA  # what a fixed-size test of this level would do


def test_ten_percent_are_found_within_a_hundred_blocks_of_five_percent_noise() -> None:
    random, needed = np.random.default_rng(1), np.array([least_count(n) for n in range(1, 201)])
    logs = random.normal(math.log(1.1), 0.05, (2000, 200))
    above = np.cumsum(logs > math.log(1.05), axis=1)
    below = np.arange(1, 201) - above
    found = np.argmax(above >= needed, axis=1)
    assert (above >= needed).any(axis=1).all()
    assert np.percentile(found, 99) < 100
    assert (below >= needed).any(axis=1).mean() < ALPHA


def test_drift_within_a_block_cancels() -> None:
    times = [(1.0 * 1.1**0, 1.0 * 1.1**3, 1.0 * 1.1**1, 1.0 * 1.1**2)] * 20
    found = slowdown_of(times, 30)
    assert (found.ratio, found.low, found.high) == pytest.approx((1, 1, 1))
    assert (found.pairs, found.limit) == (40, 60)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(1.06, 1.2, "failed"), (0.9, 1.04, "passed"), (1.04, 1.2, "undecided"), (0.5, 2.0, "undecided")],
)
def test_outcome_is_the_side_of_the_limit(low: float, high: float, outcome: str) -> None:
    stage = judge_slowdown(Slowdown(1.1, low, high, 60, 1.1, 1.0, 60), 0.05, "old.onnx", 4).stage
    assert (stage.name, stage.batch_size, stage.outcome) == ("against", 4, outcome)
    assert (stage.measured, stage.allowed, stage.comparisons) == (1.1, 1.05, 1)
    assert "against old.onnx: 1.100 ms against 1.000 ms: ratio 1.100 (98% interval" in str(stage.detail)
