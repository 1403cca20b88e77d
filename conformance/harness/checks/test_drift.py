"""Changes of level are found where they are, also in small steps, and hardly any where there are none."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.drift import _standardised, find_shifts

LEVEL = [0.365] * 12


def density(t: float, freedom: int) -> float:
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return constant * (1 + t * t / freedom) ** (-(freedom + 1) / 2)


@pytest.mark.parametrize("count", [3, 5, 30])
def test_deviation_is_as_probable_as_its_t_value(count: int) -> None:
    level = np.random.default_rng(count).standard_normal(count)
    for value in (-2.5, -0.3, 0.8, 3.0):
        t = math.sqrt(count / (count + 1)) * (value - level.mean()) / level.std(ddof=1)
        grid = np.linspace(0, abs(t), 20001)
        below = 0.5 + float(np.trapezoid([density(x, count - 1) for x in grid], grid))
        expected = math.copysign(NormalDist().inv_cdf(below), t)
        assert _standardised(value, level, 0.0) == pytest.approx(expected, abs=0.03)


def test_a_level_that_falls_is_found_with_its_first_value() -> None:
    (found,) = find_shifts([*LEVEL, *[0.361] * 6], 0.002)
    assert (found.start, found.largest, found.is_fall) == (12, 12, True)
    assert (found.before, found.after) == (pytest.approx(0.365), pytest.approx(0.361))
    assert find_shifts([*LEVEL, 0.361], 0.002) == []  # a single value is the gate's business


def test_steps_that_no_gate_sees_add_up_to_one_fall() -> None:
    steps = [0.365 - 0.0005 * step for step in range(1, 20)]
    steps[9:] = [value - 0.0004 for value in steps[9:]]
    (found,) = find_shifts([*LEVEL, *steps], 0.002)
    assert found.is_fall
    assert found.start - len(LEVEL) in (0, 1, 2)
    assert found.seen >= 27
    assert found.largest == len(LEVEL) + 9


def test_a_fall_that_was_mended_is_followed_by_a_rise() -> None:
    found = find_shifts([*LEVEL, *[0.361] * 8, *[0.365] * 8], 0.002)
    assert [(shift.start, shift.is_fall) for shift in found] == [(12, True), (20, False)]


@given(st.lists(st.floats(-3, 3), max_size=40), st.sampled_from([-4.0, 0.5, 100.0]))
def test_changes_hang_on_differences_alone_and_on_no_direction(values: list[float], offset: float) -> None:
    rounded = np.round(values, 3)
    found = find_shifts(rounded.tolist(), 0.5)
    moved, mirrored = find_shifts((rounded + offset).tolist(), 0.5), find_shifts((-rounded).tolist(), 0.5)
    assert [(one.start, one.seen) for one in moved] == [(one.start, one.seen) for one in found]
    assert [(one.start, one.is_fall) for one in mirrored] == [(one.start, not one.is_fall) for one in found]


def test_chance_finds_one_in_about_465_values_where_they_scatter() -> None:
    random = np.random.default_rng(0)
    found = sum(len(find_shifts(random.standard_normal(200).tolist(), 1e-9)) for _ in range(100))
    assert 100 * 200 / 900 < found < 100 * 200 / 250


def test_scatter_below_what_is_worth_finding_alarms_nobody() -> None:
    random = np.random.default_rng(1)
    assert not any(find_shifts((0.365 + 0.0004 * random.standard_normal(100)).tolist(), 0.002) for _ in range(50))
