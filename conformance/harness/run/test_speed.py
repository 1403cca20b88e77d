"""Two calls are compared pair by pair, so that only what tells them apart shows."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.run.speed import MOST_CALLS, measure, time_ratio
from harness.types import Outputs


class Timed:
    """A device that says of every run that it took 0.2 s."""

    card: Any = None

    def run(self, artifact: object, images: object) -> Outputs:
        raise NotImplementedError

    convert: Any = run
    check: Any = run
    close: Any = run

    def time(self, artifact: object, images: object, rounds: int) -> list[float]:
        return [0.2] * rounds


@pytest.mark.parametrize(("seconds", "calls"), [(0.01, 20), (0.5, 1), (1e-6, MOST_CALLS)])
def test_yardstick_is_timed_for_as_long_as_a_batch_and_its_mean_counts(seconds: float, calls: int) -> None:
    warm, times, taken = 5, itertools.cycle((0.9 * seconds, 1.1 * seconds)), [0]

    def yardstick() -> float:
        taken[0] += 1
        return seconds if taken[0] <= warm else next(times)

    batch: Any = SimpleNamespace(images=np.zeros(1), image_ids=(1,))
    speed = measure(Timed(), cast(Any, None), batch, yardstick)
    assert taken[0] == warm + calls * len(speed.batch_ms)
    assert speed.yardstick_ms[:2] == pytest.approx((1000 * seconds,) * 2, rel=0.11 if calls == 1 else 1e-9)


class Clock:
    """A clock that only calls move, and on a machine that gets slower and slower."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.mood = 0.0, 1.0
        self.calls: list[str] = []
        monkeypatch.setattr("harness.run.speed.time.perf_counter", lambda: self.now)

    def call(self, name: str, seconds: float, first: float | None = None) -> Callable[[], None]:
        def take() -> None:
            warming = first is not None and name not in self.calls
            self.calls.append(name)
            self.now += self.mood * (first if first is not None and warming else seconds)

        return take


@given(factor=st.floats(0.1, 10), repeat=st.integers(1, 3))
def test_ratio_of_two_steady_calls_is_exact(factor: float, repeat: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        ratio = time_ratio(clock.call("one", factor), clock.call("other", 1.0), pairs=20, repeat=repeat)
    assert ratio.low == pytest.approx(ratio.median) == pytest.approx(ratio.high) == pytest.approx(factor)
    assert ratio.ms == pytest.approx(1000 * factor)
    assert ratio.other_ms == pytest.approx(1000)


def test_first_calls_only_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    ratio = time_ratio(clock.call("one", 2.0, first=1e6), clock.call("other", 1.0, first=1e9), pairs=20)
    assert ratio.high == pytest.approx(2.0)
    assert ratio.ms == pytest.approx(2000)


def test_pairs_are_interleaved_and_their_order_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert time_ratio(clock.call("a", 1.0), clock.call("b", 1.0), pairs=4).pairs == 4
    assert "".join(clock.calls[2:]) in ("abbaabba", "baabbaab")


def test_mood_of_the_machine_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def slower() -> None:
        clock.now += 1.0 * clock.mood
        clock.mood *= 1.2  # 1.2 ** 40: what is measured last takes 1500 times as long

    ratio = time_ratio(clock.call("one", 3.0), slower, pairs=40)
    # Half of the pairs have the faster call second, when the machine is slower by a fifth.
    assert ratio.low >= 3.0 - 1e-9
    assert ratio.high <= 3.6 + 1e-9


def test_interval_is_wide_where_the_pairs_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    turns = iter(range(10**6))

    def moody() -> None:
        clock.now += 0.5 if next(turns) % 4 < 2 else 4.0

    ratio = time_ratio(moody, clock.call("other", 1.0), pairs=20)
    assert ratio.low <= 0.5
    assert ratio.high >= 4.0
    assert "95 % interval 0.500 to 4.000, 20 pairs" in str(ratio)
