"""Matching, sampling, pooling and the moves of boxes equal the official code's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from conformance.support.centernet2_golden import equal_but_for_rounding, golden, golden_figures
from conformance.support.centernet2_recipe import ROI_BOXES, moves, pyramid, sampled_labels
from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet2.boxes import decode, encode, overlaps
from harness.centernet2.cascade import level_of, pool
from harness.centernet2.labels import Truth, choose, label, sample

ROI = load_two_stage_settings().roi
OBJECTS = Truth(
    torch.tensor([(0.0, 0.0, 100.0, 100.0), (200.0, 0.0, 300.0, 100.0), (0.0, 0.0, 100.0, 100.0)]),
    torch.tensor([5, 7, 9]),
)
WIDTHS = (59.99, 60.0, 60.01, 69.99, 70.0, 70.01, 79.99, 80.0, 80.01, 100.0)
NEAR = torch.tensor(
    [(0.0, 0.0, width, 100.0) for width in WIDTHS]
    + [(100.0, 0.0, 200.0, 100.0), (230.0, 0.0, 300.0, 100.0), (400.0, 400.0, 410.0, 410.0)]
)


@pytest.mark.parametrize("stage", range(3))
def test_an_overlap_of_exactly_the_limit_is_foreground(stage: int) -> None:
    expected = golden_figures("pieces.json")["matching"]
    found = label(ROI, stage, NEAR, OBJECTS)
    foreground, matched = (expected[f"stage{stage}"][name] for name in ("foreground", "matched"))
    classes = [OBJECTS.classes[object_].item() for object_ in matched]
    assert found.labels.tolist() == [c if is_one else 80 for c, is_one in zip(classes, foreground, strict=True)]
    assert torch.equal(found.truth, OBJECTS.boxes[matched])
    assert torch.allclose(overlaps(OBJECTS.boxes, NEAR), torch.tensor(expected["iou"]), rtol=1e-7)


@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_torchvision_where_boxes_have_area(seed: int) -> None:
    corners = np.random.default_rng(seed).uniform(0, 50, (2, 7, 4)).astype(np.float32)
    one, other = (torch.from_numpy(np.concatenate((c[:, :2], c[:, :2] + c[:, 2:]), axis=1)) for c in corners)
    assert torch.allclose(overlaps(one, other), box_iou(one, other))


def test_boxes_without_area_overlap_nothing() -> None:
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert overlaps(point, point).tolist() == [[0.0]]


def test_without_objects_all_is_background() -> None:
    none = Truth(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64))
    assert set(label(ROI, 0, NEAR, none).labels.tolist()) == {80}


def test_sampling_draws_as_the_official_code() -> None:
    torch.manual_seed(0)
    kept = choose(ROI, torch.from_numpy(sampled_labels()))
    assert torch.equal(kept[:128], golden("pieces.npz", "sampling/foreground"))
    assert torch.equal(kept[128:], golden("pieces.npz", "sampling/background"))


def test_objects_are_proposals_too_and_all_may_be_taken() -> None:
    found = sample(ROI, NEAR, OBJECTS, all_proposals=True)
    assert len(found.boxes) == len(NEAR) + len(OBJECTS.boxes)
    is_foreground = found.labels < 80
    assert torch.equal(is_foreground.sort(descending=True).values, is_foreground)
    alone = sample(ROI.model_copy(update={"append_truth": False}), NEAR, OBJECTS, all_proposals=True)
    assert len(alone.boxes) == len(NEAR)


def test_pooled_features_equal_the_official() -> None:
    boxes = [torch.tensor(own) for own in ROI_BOXES]
    features = [one.requires_grad_() for one in pyramid()]
    pooled, order = pool(ROI, features, boxes)
    found, expected = pooled[order.argsort()], golden_figures("pieces.json")["roi"]
    assert level_of(ROI, torch.cat(boxes)).tolist() == expected["levels"]
    assert equal_but_for_rounding(found.detach(), golden("pieces.npz", "roi/aligned"))
    (found * torch.linspace(-1, 1, found.numel()).reshape(found.shape)).sum().backward()  # type: ignore[no-untyped-call]
    norms = [float(one.grad.norm()) for one in features if one.grad is not None]
    assert norms == pytest.approx(expected["aligned"]["gradient_norms_by_level"], rel=1e-5)


@pytest.mark.parametrize("stage", range(3))
def test_moves_of_boxes_equal_the_official(stage: int) -> None:
    source, target, deltas = (torch.from_numpy(values) for values in moves())
    weights = ROI.weights[stage]
    assert equal_but_for_rounding(encode(source, target, weights), golden("pieces.npz", f"deltas/{stage}/encoded"))
    moved = decode(source, deltas, weights, ROI.largest_growth)
    assert equal_but_for_rounding(moved, golden("pieces.npz", f"deltas/{stage}/decoded"))


@given(st.integers(0, 2**32 - 1), st.sampled_from(range(3)))
def test_a_move_that_is_decoded_leads_where_it_was_encoded_to(seed: int, stage: int) -> None:
    corners = np.random.default_rng(seed).uniform(1, 50, (2, 5, 4)).astype(np.float32)
    source, target = (torch.from_numpy(np.concatenate((c[:, :2], c[:, :2] + c[:, 2:]), axis=1)) for c in corners)
    weights = ROI.weights[stage]
    found = decode(source, encode(source, target, weights), weights, ROI.largest_growth)
    assert torch.allclose(found, target, atol=1e-3)
    assert math.isclose(ROI.largest_growth, 1000 / 16)
