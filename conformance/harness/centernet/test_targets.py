"""Training: targets and losses are those of CenterNet."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.centernet.loss import TargetBatch, centernet_loss, focal_loss, l1_at_centres
from harness.centernet.targets import Targets, draw_targets, gaussian_radius
from harness.types import Float32, Float64


def reference_radius(height: float, width: float) -> float:
    """Compute the official radius by roots of its three equations: ``a`` times the larger root of a r^2 - b r + c."""
    total, area, overlap = height + width, height * width, 0.7
    equations = [
        (1, total, area * (1 - overlap) / (1 + overlap)),
        (4, 2 * total, area * (1 - overlap)),
        (4 * overlap, -2 * overlap * total, area * (overlap - 1)),
    ]
    return float(min(a * np.roots([a, -b, c]).real.max() for a, b, c in equations))


@given(height=st.floats(0.1, 200), width=st.floats(0.1, 200))
@settings(deadline=None, max_examples=100)
def test_radius_is_the_official_one(height: float, width: float) -> None:
    assert gaussian_radius(height, width) == pytest.approx(reference_radius(height, width), rel=1e-9)


def test_radius_of_a_square_of_ten_cells_is_the_published_one() -> None:
    # (-28 + sqrt(28^2 + 4 x 2.8 x 30)) / 2, the least of the three
    assert gaussian_radius(10, 10) == pytest.approx((-28 + math.sqrt(784 + 336)) / 2)


def naive_targets(boxes: Float64, classes: list[int], crowds: Float64, shape: tuple[int, int, int]) -> Targets:
    """Draw the targets cell by cell."""
    _, height, width = shape
    hm, weight = np.zeros(shape, np.float32), np.ones((1, height, width), np.float32)
    for y, x, (x1, y1, x2, y2) in ((y, x, box) for y in range(height) for x in range(width) for box in crowds):
        if x1 < x + 1 and x2 > x and y1 < y + 1 and y2 > y:
            weight[0, y, x] = 0
    index, wh, reg = [], [], []
    for (x1, y1, x2, y2), channel in zip(boxes, classes, strict=True):
        x1, x2 = (min(max(x, 0), width - 1) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), height - 1) for y in (y1, y2))
        if x2 <= x1 or y2 <= y1:
            continue
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        column, row = math.floor(cx), math.floor(cy)
        radius = int(reference_radius(math.ceil(y2 - y1), math.ceil(x2 - x1)))
        sigma = (2 * radius + 1) / 6
        for y, x in np.ndindex(height, width):
            if abs(y - row) <= radius and abs(x - column) <= radius:
                bump = math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
                hm[channel, y, x] = max(hm[channel, y, x], bump)
        weight[0, row, column] = 1
        index.append(row * width + column)
        wh.append((x2 - x1, y2 - y1))
        reg.append((cx - column, cy - row))
    pairs: list[Float32] = [np.array(values, np.float32).reshape(-1, 2) for values in (wh, reg)]
    return Targets(hm, weight, np.array(index, np.int64), *pairs)


@st.composite
def boxes_on_a_grid(draw: st.DrawFn) -> Float64:
    """Draw up to four boxes of positive size, within, across and beside a grid of 16 x 12 cells."""
    corners = st.tuples(st.floats(-6, 20), st.floats(-6, 16), st.floats(0.01, 18), st.floats(0.01, 14))
    found = [(x, y, x + w, y + h) for x, y, w, h in draw(st.lists(corners, max_size=4))]
    return np.array(found, np.float64).reshape(-1, 4)


@given(boxes=boxes_on_a_grid(), crowds=boxes_on_a_grid(), first=st.integers(0, 2))
@settings(deadline=None, max_examples=60)
def test_targets_equal_a_drawing_cell_by_cell(boxes: Float64, crowds: Float64, first: int) -> None:
    classes = [(first + 2 * i) % 3 for i in range(len(boxes))]
    drawn = draw_targets(boxes, np.array(classes, np.int64), crowds, (3, 12, 16))
    expected = naive_targets(boxes, classes, crowds, (3, 12, 16))
    np.testing.assert_allclose(drawn.hm, expected.hm, rtol=0, atol=1e-6)
    for name in ("weight", "index", "wh", "reg"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(expected, name), err_msg=name)


@given(boxes=boxes_on_a_grid())
@settings(deadline=None, max_examples=60)
def test_heatmap_is_exactly_one_at_centres_and_nowhere_else(boxes: Float64) -> None:
    drawn = draw_targets(boxes, np.zeros(len(boxes), np.int64), np.empty((0, 4)), (1, 12, 16))
    assert set(np.flatnonzero(drawn.hm == 1)) == set(drawn.index.tolist())
    assert drawn.hm.max(initial=0) <= 1
    assert (drawn.weight == 1).all()


def naive_focal(logits: Float64, target: Float64, weight: Float64) -> float:
    """Compute equation 1 of "Objects as Points", place by place."""
    loss, centres = 0.0, 0
    for place in np.ndindex(*logits.shape):
        p, y = 1 / (1 + math.exp(-logits[place])), target[place]
        if y == 1:
            centres += 1
            loss -= (1 - p) ** 2 * math.log(p)
        else:
            loss -= (1 - y) ** 4 * p**2 * math.log(1 - p) * weight[place[0], 0, place[2], place[3]]
    return loss / max(centres, 1)


@given(seed=st.integers(0, 2**16), centres=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_focal_loss_is_the_published_formula(seed: int, centres: int) -> None:
    random = np.random.default_rng(seed)
    logits, target = random.normal(-2, 3, (2, 3, 4, 5)), random.uniform(0, 0.99, (2, 3, 4, 5))
    target.ravel()[random.permutation(target.size)[:centres]] = 1
    weight = random.integers(0, 2, (2, 1, 4, 5)).astype(np.float64)
    loss = focal_loss(*(torch.from_numpy(array) for array in (logits, target, weight)))
    assert float(loss) == pytest.approx(naive_focal(logits, target, weight), rel=1e-9)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_focal_loss_and_its_gradient_stay_finite_where_the_sigmoid_saturates(logit: float) -> None:
    logits = torch.full((1, 1, 2, 2), logit, requires_grad=True)
    target = torch.tensor([[[[1.0, 0.5], [0.0, 0.9]]]])
    loss = focal_loss(logits, target, torch.ones(1, 1, 2, 2))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert bool(torch.isfinite(loss) & torch.isfinite(gradient).all())


def test_l1_takes_the_head_at_the_place_of_each_centre() -> None:
    head = torch.arange(2 * 2 * 3 * 4, dtype=torch.float64).reshape(2, 2, 3, 4)
    places = [(1, 2, 3), (0, 0, 0), (1, 0, 2)]
    index = torch.tensor([(image * 3 + y) * 4 + x for image, y, x in places])
    target = torch.tensor([[1.0, -2.0], [0.5, 0.25], [3.0, 70.0]], dtype=torch.float64)
    expected = [abs(float(head[n, c, y, x] - target[i, c])) for i, (n, y, x) in enumerate(places) for c in (0, 1)]
    assert float(l1_at_centres(head, index, target)) == pytest.approx(sum(expected) / 6)


def test_l1_of_images_without_objects_is_zero_and_can_be_differentiated() -> None:
    head = torch.randn(1, 2, 3, 4, requires_grad=True)
    loss = l1_at_centres(head, torch.empty(0, dtype=torch.int64), torch.empty(0, 2))
    (gradient,) = torch.autograd.grad(loss, head)
    assert loss.item() == 0
    assert not gradient.any()


def test_total_loss_weighs_the_heads_as_the_official_code() -> None:
    heads = {name: torch.randn(1, channels, 3, 4) for name, channels in (("hm", 5), ("wh", 2), ("reg", 2))}
    hm = torch.zeros(1, 5, 3, 4)
    hm[0, 2, 1, 1] = 1
    targets = TargetBatch(hm, torch.ones(1, 1, 3, 4), torch.tensor([5]), torch.rand(1, 2), torch.rand(1, 2))
    losses = {name: float(loss) for name, loss in centernet_loss(heads, targets).items()}
    assert losses["total"] == pytest.approx(losses["hm"] + 0.1 * losses["wh"] + losses["reg"])
