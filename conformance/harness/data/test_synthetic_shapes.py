"""The outlines of the generated data set have their geometric areas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.synthetic import load_spec
from harness.data.synthetic.shapes import FULL, coverage
from harness.data.synthetic.spec import Outline

SPEC = load_spec()

FILL: dict[Outline, float] = {
    "rectangle": 1.0, "cross": 5 / 9, "triangle_up": 1 / 2, "triangle_down": 1 / 2,
    "ellipse": math.pi / 4, "ring": math.pi / 4 * (1 - 0.55**2),
}  # fmt: skip
"""Mask / box of the outlines, from geometry."""


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FILL)), st.integers(8, 160), st.integers(8, 160))
def test_coverage_sums_to_the_area_of_the_outline(outline: Outline, width: int, height: int) -> None:
    # The error of counting samples is bounded by the length of the border, in samples of 1/4 pixel; a ring has two.
    border = 2 * (width + height)
    area = coverage(outline, width, height).sum(dtype=np.int64) / FULL
    assert abs(area - FILL[outline] * width * height) < border * 2 / 4


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 120), st.integers(8, 120))
def test_triangles_are_each_other_upside_down(width: int, height: int) -> None:
    up, down = coverage("triangle_up", width, height), coverage("triangle_down", width, height)
    np.testing.assert_array_equal(up[::-1], down)
    assert up[0].sum() < up[-1].sum()


def test_stated_fill_is_that_of_the_outline() -> None:
    for name, shape in SPEC.shape.items():
        assert shape.fill == pytest.approx(100 * FILL[shape.outline], abs=1), name
