"""A stage passes only by what was compared, and its failure says where and by how much."""

from __future__ import annotations

import math

import pytest

from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, judged_outputs, undecided

WHERE = "stage heads, device chip, precision fp32, batch size 4: "


def good(measured: float = 0.5, count: int = 9) -> Comparison:
    return Comparison("head hm", measured, 1.0, count)


def bad(number: int = 0) -> Comparison:
    return Comparison(f"head {number}", 2.0, 1.0, 9, "too far")


@pytest.mark.parametrize("comparisons", [[], [good(0.0, count=0)]])
def test_stage_in_which_nothing_was_compared_fails(comparisons: list[Comparison]) -> None:
    found = judge("heads", 4, comparisons)
    assert (found.stage.outcome, found.stage.comparisons, found.is_green) == ("failed", 0, False)
    assert found.message("chip", "fp32") == f"{WHERE}nothing was compared"


def test_stage_passes_with_what_came_closest_to_its_limit() -> None:
    stage = judge("heads", 4, [good(0.1), Comparison("head wh", 0.04, 0.05, 9), good(0.7)]).stage
    assert (stage.outcome, stage.comparisons) == ("passed", 3)
    assert (stage.measured, stage.allowed) == (0.04, 0.05)
    assert stage.margin == pytest.approx(0.8)


def test_undecided_is_not_green() -> None:
    found = undecided("accuracy", 4, good(), "not decidable on 50 images")
    assert (found.stage.outcome, found.is_green) == ("undecided", False)
    assert (found.stage.measured, found.stage.margin, found.stage.comparisons) == (0.5, 0.5, 1)
    assert found.message("chip", "fp32").endswith("precision fp32, batch size 4: not decidable on 50 images")


def test_failure_lists_the_first_few() -> None:
    found = judge("heads", 4, [good(), *map(bad, range(8))])
    lines = found.message("chip", "fp32").splitlines()
    assert lines[0] == f"{WHERE}8 of 9 comparisons deviate"
    assert lines[1] == "  head 0: measured 2, allowed 1, 9 values: too far"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 8
    assert (found.stage.outcome, found.stage.measured, found.stage.detail) == ("failed", 2.0, lines[1].strip())


def test_what_json_cannot_hold_is_none() -> None:
    assert judge("heads", 4, [Comparison("head hm", math.inf, 1.0, 9, "NaN")]).stage.measured is None


@pytest.mark.parametrize("error", [DeviceOutputError("hm", "shape (1)", "(2)"), NonFiniteHeadError("hm", 3, 17)])
def test_wrong_tensors_are_a_deviation_of_the_stage_that_met_them(error: Exception) -> None:
    def check() -> StageResult:
        raise error

    stage = judged_outputs("accuracy", 4, check).stage
    assert (stage.name, stage.outcome, stage.comparisons) == ("accuracy", "failed", 0)
    assert str(error) in (stage.detail or "")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        judged_outputs("accuracy", 4, lambda: judge("accuracy", 1 // 0, []))
