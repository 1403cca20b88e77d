"""A series of times that is no single figure is described, and a quiet one is not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.checks.steadiness import FEWEST, remarks_on

Times = NDArray[np.float64]


def quiet(seed: int, length: int = 50, spread: float = 0.02) -> Times:
    random = np.random.default_rng(seed)
    return np.asarray(10 * np.exp(random.normal(0, spread, length)))


@pytest.mark.parametrize("length", [FEWEST - 1, 10, 20, 50, 500])
@pytest.mark.parametrize("spread", [0, 0.01, 0.05])
def test_nothing_is_said_of_quiet_times(length: int, spread: float) -> None:
    said = [remark for seed in range(100) for remark in remarks_on(quiet(seed, length, spread).tolist())]
    assert said == []


def test_disturbances_are_no_second_speed() -> None:
    """One time in twenty is of another length: no clock has changed."""
    for seed in range(100):
        times, random = quiet(seed), np.random.default_rng(seed)
        times[1:] *= np.where(random.random(49) < 0.05, 3.0, 1.0)
        assert remarks_on(times.tolist()) == ()


def test_warm_up_is_seen() -> None:
    times = quiet(0)
    times[0] *= 3
    [said] = remarks_on(times.tolist())
    assert said.startswith("warm-up: the first batch took 3.")


@pytest.mark.parametrize(("rate", "says"), [(0.15, True), (-0.15, True), (0.02, False)])
def test_drift_is_seen_in_both_directions(rate: float, says: bool) -> None:
    for seed in range(50):
        said = remarks_on((quiet(seed) * (1 + rate * np.linspace(0, 1, 50))).tolist())
        assert [remark.partition(":")[0] for remark in said] == (["drift"] if says else [])


def test_step_of_the_clock_is_seen_where_it_is() -> None:
    times = quiet(0)
    times[30:] *= 1.3
    [said] = remarks_on(times.tolist())
    assert said.startswith("the clock changed: batches take ")
    assert said.endswith("with a change at batch 30")


def test_two_speeds_by_turns_are_seen() -> None:
    times = quiet(0)
    times[::2] *= 1.4
    [said] = remarks_on(times.tolist())
    assert said.startswith("two speeds: batches take ")
