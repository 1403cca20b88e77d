"""Judgements of speed: each limit holds on its own side, and what cannot be judged is measured with its reason."""

import pytest

from harness.cards import DeviceCard, load_device_card
from harness.cards.device import card_file
from harness.checks.speed import judge_device_share, judge_estimate, judge_overhead, judge_stated, reason_against_peak
from harness.devices.artifact import CompilerEstimate, StatedSpeed
from harness.run.speed import Ratio, Speed


@pytest.mark.parametrize(("low", "deviates"), [(1.02, False), (1.021, True)])
def test_overhead_deviates_only_where_the_whole_interval_is_above(low: float, deviates: bool) -> None:
    found = judge_overhead(Ratio(1.05, low, 1.1, 20, 2.0, 1.9))
    assert (found.measured, found.count) == (1.05, 20)
    assert (found.problem is not None) == deviates


@pytest.mark.parametrize(("shares", "deviates"), [((0.5, 0.9, 0.7), False), ((0.89, 0.5), True)])
def test_best_run_counts_for_the_share_in_the_device(shares: tuple[float, ...], deviates: bool) -> None:
    found = judge_device_share(shares, 24)
    assert (found.measured, found.count) == (1 - max(shares), 24)
    assert (found.problem is not None) == deviates


@pytest.mark.parametrize(("floor", "measured", "deviates"), [(None, 0, False), (4.0, 1, False), (4.1, 1.025, True)])
def test_estimate_is_no_faster_than_its_traffic(floor: float | None, measured: float, deviates: bool) -> None:
    found = judge_estimate(CompilerEstimate(4.0, floor, ""))
    assert found.measured == pytest.approx(measured)
    assert (found.problem is not None) == deviates


def stated(*shares: float | None) -> tuple[StatedSpeed, ...]:
    return tuple(StatedSpeed(30.0, (33.0,), "by a tool", share) for share in shares)


def card(name: str) -> DeviceCard:
    return load_device_card(card_file(name))


def test_stated_speed_is_held_to_a_peak_with_a_source_and_measured_beside_another() -> None:
    assert judge_stated(stated(0.5, None)).problem is None
    assert judge_stated(stated(0.5, 1.01)).problem == "faster than the chip can compute"
    assert reason_against_peak(stated(0.5, None), card("ascend310")) is None
    assert "not verified (Huawei, data sheet" in str(reason_against_peak(stated(1.5), card("ascend310p")))
    assert "no --device says" in str(reason_against_peak(stated(None), card("torch")))
    assert "nothing that a tool" in str(reason_against_peak((), card("ascend310")))


def test_share_of_the_peak_is_by_chips() -> None:
    speed = Speed(4.3125, 1, (), "a tool", "execution")
    of_chip, of_card = (one.share_of_peak(33.0, card("ascend310")) for one in (speed, speed.of_card(card("ascend310"))))
    assert of_chip == of_card == pytest.approx(4.3125 * 66 / 8000)
    assert speed.share_of_peak(33.0, card("torch")) is None
