"""Comparisons of the parts of a run, joined, are those of the run in one piece."""

from hypothesis import given
from hypothesis import strategies as st

from harness.checks.comparison import Comparison, worst
from harness.checks.joining import join, until_first_problem

CALLS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=12)
"""Measured, and whether it deviates, of later calls."""


def later(place: int, measured: int, deviates: bool) -> Comparison:
    problem = "too far" if deviates else None
    return Comparison(f"image {place}", measured, 5, 1, problem, worst_of="later calls, head hm")


@given(CALLS, st.integers(1, 11))
def test_worst_of_all_parts_is_the_worst_of_all_calls(values: list[tuple[int, bool]], cut: int) -> None:
    calls = [later(place, *value) for place, value in enumerate(values)]
    parts = [part for part in (calls[:cut], calls[cut:]) if part]
    assert join([[worst(part)] for part in parts]) == [worst(calls)]


def every(images: int, beyond: int, problem: str | None = None) -> Comparison:
    return Comparison("all", 2.0 if problem else 0.0, 0, 10 * images, problem, images=images, beyond=beyond)


def test_counts_of_images_are_added_up_and_the_first_problem_stands() -> None:
    assert join([[every(4, 1)], [every(3, 0)]]) == [every(7, 1)]
    [joined] = join([[every(4, 1)], [every(3, 2, "image 9: lost")], [every(2, 1, "image 11: lost")]])
    assert str(joined) == "all: measured 2, allowed 0, 30 values: 4 of 9 images stand out; image 9: lost"


def test_counts_of_images_that_a_part_lacks_are_left_out() -> None:
    sample = Comparison("image 1", 1, 5, 9)
    assert join([[sample, every(4, 1)], [sample]]) == [sample]


def test_what_every_part_compares_stands_once_with_the_worst_outcome() -> None:
    good, bad = Comparison("image 1", 1, 5, 9), Comparison("image 1", 6, 5, 9, "too far")
    other = Comparison("image 2", 1, 5, 9)
    assert join([[good, other], [bad, other], [good, other]]) == [bad, other]


def test_run_that_stops_at_the_first_problem_has_nothing_behind_it() -> None:
    good, bad = Comparison("image 1", 1, 5, 9), Comparison("image 2", 6, 5, 9, "too far")
    assert until_first_problem([good, bad, good, bad]) == [good, bad]
    assert until_first_problem([good, good]) == [good, good]
