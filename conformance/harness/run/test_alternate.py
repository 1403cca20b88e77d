"""Two models take turns by lot, until it is clear or the limit is reached; with a clock that only they move."""

from collections.abc import Callable

import numpy as np
import pytest

from harness.run.alternate import BLOCKS, SECONDS, Timed, time_alternately


def steady(name: str, seconds: float, calls: list[str]) -> Timed:
    def run() -> float:
        calls.append(name)
        return seconds

    return run


def noisy(median: float, spread: float, seed: int) -> Callable[[], float]:
    random = np.random.default_rng(seed)
    return lambda: median * float(np.exp(random.normal(0, spread)))


@pytest.mark.parametrize(("factor", "answer"), [(1.0, "kept"), (1.1, "slower"), (0.9, "kept"), (1.05001, "slower")])
def test_steady_models_need_nine_blocks(factor: float, answer: str) -> None:
    calls: list[str] = []
    found = time_alternately(steady("n", factor, calls), steady("o", 1.0, calls), 0.05)
    assert (found.answer(0.05), found.pairs) == (answer, 18)
    assert found.ratio == pytest.approx(factor)
    assert len(calls) == 4 * (9 + 2)


def test_blocks_are_of_both_orders_and_the_lot_decides() -> None:
    calls: list[str] = []
    time_alternately(steady("n", 1.0, calls), steady("o", 1.0, calls), 0.05)
    blocks = ["".join(calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert set(blocks[2:]) == {"noon", "onno"}
    again: list[str] = []
    time_alternately(steady("n", 1.0, again), steady("o", 1.0, again), 0.05, seed=3)
    assert again != calls


def test_more_noise_takes_more_pairs() -> None:
    pairs = [time_alternately(noisy(1.1, spread, 1), noisy(1.0, spread, 2), 0.05).pairs for spread in (0.01, 0.3)]
    assert pairs[0] < 60 < pairs[1]


def test_what_cannot_be_told_ends_at_the_limit_and_is_open() -> None:
    found = time_alternately(noisy(1.05 * SECONDS, 0.5, 1), noisy(SECONDS, 0.5, 2), 0.05)
    assert (found.answer(0.05), found.pairs, found.limit) == ("open", 2 * BLOCKS[0], 2 * BLOCKS[0])


def test_two_equal_models_are_told_apart_by_no_load() -> None:
    """Of 60 runs on a machine that stops each call now and then for ten times its length, none is a false alarm."""
    random, answers = np.random.default_rng(5), []
    for seed in range(60):

        def call() -> float:
            return 0.001 * (10 if random.random() < 0.2 else 1) * float(np.exp(random.normal(0, 0.02)))

        answers.append(time_alternately(call, call, 0.05, seed).answer(0.05))
    assert set(answers) == {"kept"}
