"""Detections that a device and the reference visibly do not share are marked, and weigh by their scores."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.disagreement import SHOWN_SCORE, VISIBLE, disagreement
from harness.types import Detections

PERSON, CAT = 0, 1
LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)


def detections(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64)
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from([LEFT, RIGHT, (1, 0, 11, 10), (4, 0, 14, 10)]),
        st.floats(0, 1, width=32),
        st.sampled_from([PERSON, CAT]),
    ),
    max_size=4,
)


def lost_or_gained(found: Sequence[float], golden: Sequence[float]) -> float:
    """Sum of the scores that are drawn."""
    return sum(score for score in (*found, *golden) if score >= SHOWN_SCORE)


@given(ROWS)
def test_same_detections_do_not_disagree(rows: list[tuple[tuple[float, ...], float, int]]) -> None:
    one = detections(*sorted(rows, key=lambda row: -row[1]))
    distinct = len({(row[0], row[2]) for row in rows}) == len(rows)
    far = all(a[0] == b[0] or a[2] != b[2] or {a[0], b[0]} & {RIGHT} for a, b in itertools.combinations(rows, 2))
    if distinct and far:
        found = disagreement(one, one)
        assert (found.total, found.moved, found.found.any(), found.golden.any()) == (0.0, 0, False, False)


@given(ROWS, ROWS)
def test_disagreement_is_bounded_by_all_that_is_drawn(
    rows: list[tuple[tuple[float, ...], float, int]], others: list[tuple[tuple[float, ...], float, int]]
) -> None:
    one, other = detections(*rows), detections(*others)
    found = disagreement(one, other)
    assert 0 <= found.total <= sum(row[1] for row in (*rows, *others)) + 1e-5
    assert (found.total == 0) == (not found.found.any() and not found.golden.any())
    assert found.found.sum() >= found.moved <= found.golden.sum()
    nothing = disagreement(one, detections())
    assert nothing.total == pytest.approx(lost_or_gained([row[1] for row in rows], []), abs=1e-5)


@pytest.mark.parametrize(
    ("found", "golden", "expected"),
    [
        ([(LEFT, 0.9, PERSON)], [(LEFT, 0.8, PERSON)], ([False], [False], 0, 0.0)),
        ([(LEFT, 0.9, PERSON)], [(LEFT, 0.5, PERSON)], ([True], [True], 1, 0.4)),
        ([(LEFT, 0.9, PERSON)], [(LEFT, 0.9, CAT)], ([True], [True], 0, 1.8)),
        ([(LEFT, 0.9, PERSON)], [(RIGHT, 0.25, PERSON)], ([True], [False], 0, 0.9)),
        ([(LEFT, 0.31, PERSON)], [(LEFT, 0.29, PERSON)], ([False], [False], 0, 0.0)),
        ([(LEFT, 0.25, PERSON)], [(LEFT, 0.02, PERSON)], ([False], [False], 0, 0.0)),
        # 10 x 7 of 10 x 10 pixels: the IoU is 0.7
        ([((0, 0, 10, 7), 1.0, PERSON)], [(LEFT, 0.9, PERSON)], ([True], [True], 1, 0.1 + 0.3 * 0.9)),
        ([], [(LEFT, 0.7, CAT)], ([], [True], 0, 0.7)),
    ],
)
def test_cases_counted_by_hand(
    found: list[tuple[tuple[float, ...], float, int]],
    golden: list[tuple[tuple[float, ...], float, int]],
    expected: tuple[list[bool], list[bool], int, float],
) -> None:
    assert VISIBLE == 0.2
    one = disagreement(detections(*found), detections(*golden))
    assert (one.found.tolist(), one.golden.tolist(), one.moved) == expected[:3]
    assert one.total == pytest.approx(expected[3], abs=1e-6)


def test_best_takes_the_partner_that_it_overlaps_most() -> None:
    found = detections((LEFT, 0.9, PERSON), ((1, 0, 11, 10), 0.8, PERSON))
    one = disagreement(found, detections(((1, 0, 11, 10), 0.8, PERSON), (LEFT, 0.9, PERSON)))
    assert one.total == 0
