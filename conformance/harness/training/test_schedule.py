"""Learning rates: those of the official code, and those that the formulas give by hand."""

from pathlib import Path

import pytest

from harness.cards import Solver, load_recipe
from harness.cards.schema import parse
from harness.errors import HarnessError
from harness.training.schedule import WARM_UP, cosine_learning_rate, learning_rate, scaled_to

OFFICIAL = {
    0: 5e-06,
    1: 9.99875e-06,
    2: 1.4997500000000002e-05,
    3: 1.999625e-05,
    100: 0.000504875,
    1999: 0.00999750125,
    2000: 0.010002500000000001,
    3998: 0.019990002500000003,
    3999: 0.019995001249999998,
    4000: 0.02,
    4001: 0.02,
    30000: 0.02,
    59998: 0.02,
    59999: 0.02,
    60000: 0.002,
    60001: 0.002,
    79999: 0.002,
    80000: 0.00020000000000000004,
    80001: 0.00020000000000000004,
    89999: 0.00020000000000000004,
}
"""By iteration, as detectron2 02b5c4e steps the optimizer of CenterNet2_R50_1x.yaml (CenterNet2 bfc8b72)."""


@pytest.fixture(scope="module")
def official() -> Solver:
    return load_recipe("centernet2_1x").solver


@pytest.mark.parametrize("iteration", OFFICIAL)
def test_rate_is_that_of_the_official_schedule(official: Solver, iteration: int) -> None:
    assert learning_rate(official, iteration) == pytest.approx(OFFICIAL[iteration], rel=1e-12, abs=0)


def test_rate_without_warm_up_is_whole_from_the_first_iteration(official: Solver) -> None:
    assert learning_rate(official.model_copy(update={"warmup_iterations": 0}), 0) == official.base_lr


@pytest.mark.parametrize("ratio", [4, 0.5, 0.125])
def test_scaled_schedule_has_the_same_shape_over_the_images(official: Solver, ratio: float) -> None:
    scaled = scaled_to(official, int(16 * ratio))
    assert (scaled.batch_size, scaled.warmup_factor, scaled.momentum) == (16 * ratio, 0.00025, 0.9)
    assert scaled.iterations * scaled.batch_size == 90000 * 16
    for iteration in (0, 1000, 3999, 4000, 59996, 60000, 79996, 80000, 89996):
        there = learning_rate(scaled, int(iteration / ratio))
        # Iterations that are no multiple of the ratio lie within one of the other schedule.
        rounding = 0.02 / 4000 * max(1.0, ratio)
        assert there / ratio == pytest.approx(learning_rate(official, iteration), abs=rounding)


def test_scaled_schedule_of_64_images_by_hand(official: Solver) -> None:
    scaled = scaled_to(official, 64)
    assert (scaled.base_lr, scaled.warmup_iterations, scaled.steps) == (0.08, 1000, (15000, 20000))
    assert scaled.iterations == 22500
    assert scaled_to(official, 16) is official


def test_batch_in_which_the_steps_fall_together_is_refused(official: Solver) -> None:
    with pytest.raises(HarnessError, match=r"--batch-size: the schedule of 90000 iterations cannot be scaled"):
        scaled_to(official, 2**20)


@pytest.mark.parametrize("steps", [[80000, 60000], [60000, 60000], [4000, 60000]])
def test_steps_that_do_not_ascend_after_the_warm_up_are_refused(official: Solver, steps: list[int]) -> None:
    with pytest.raises(HarnessError, match="steps must ascend, and lie after the warm-up"):
        parse(Solver, {**official.model_dump(), "steps": steps}, Path("recipe.toml"))


def test_cosine_rate_warms_up_and_falls_to_a_hundredth() -> None:
    rates = [cosine_learning_rate(0.5, 1000, iteration) for iteration in range(1001)]
    assert rates[0] == pytest.approx(0.5 / WARM_UP)
    assert rates[WARM_UP - 1] == rates[WARM_UP] == pytest.approx(0.5)
    assert rates[(WARM_UP + 1000) // 2] == pytest.approx(0.5 * 0.505)
    assert rates[1000] == pytest.approx(0.005)
    assert rates[:WARM_UP] == sorted(rates[:WARM_UP])
    assert rates[WARM_UP:] == sorted(rates[WARM_UP:], reverse=True)
