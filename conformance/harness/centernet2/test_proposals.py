"""Proposals and detections of given heads and scores equal the official code's."""

import pytest
import torch

from conformance.support.centernet2_golden import equal_but_for_rounding, golden
from conformance.support.centernet2_recipe import first_stage, scored_boxes
from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet2.head import FirstStage
from harness.centernet2.model import detect, rescaled
from harness.centernet2.proposals import Proposed, before_nms, propose
from harness.centernet2.targets import STRIDES

SETTINGS = load_two_stage_settings()
FEW = SETTINGS.proposals.model_copy(update={"before_nms": 60, "after_nms": 40})


def ordered(found: Proposed) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores in an order that does not hang on that of equal scores."""
    rows = sorted(zip(found.scores.tolist(), found.boxes.tolist(), strict=True), reverse=True)
    return torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])


@pytest.mark.parametrize("case", ["train", "test", "top_k"])
@pytest.mark.parametrize("when", ["before_nms", "after_nms"])
def test_proposals_equal_the_official(case: str, when: str) -> None:
    settings, training = FEW if case == "top_k" else SETTINGS.proposals, case != "test"
    heads = first_stage("proposals", 128, 160, 2)
    if when == "after_nms":
        found = propose(settings, heads, training=training)
    else:
        by_level = before_nms(settings, heads, training=training)
        found = [Proposed(*map(torch.cat, zip(*levels, strict=True))) for levels in by_level]
    for image, one in enumerate(found):
        key = f"proposals/{'train' if case == 'test' and when == 'before_nms' else case}/{image}/{when}"
        expected = Proposed(golden("pieces.npz", f"{key}/boxes"), golden("pieces.npz", f"{key}/scores"))
        for ours, theirs in zip(ordered(one), ordered(expected), strict=True):
            assert equal_but_for_rounding(ours, theirs)  # the sigmoid of another processor may differ in its last bit


def test_one_box_of_three_levels_is_one_proposal() -> None:
    logits, sides = [], []
    for level, stride in enumerate(STRIDES):
        shape = (-(-128 // stride), -(-160 // stride))
        logits.append(torch.full((1, 1, *shape), -12.0))
        sides.append(torch.zeros((1, 4, *shape)))
        if level < 3:
            cell, centre = 72 // stride, 72 // stride * stride + stride // 2
            logits[-1][0, 0, cell, cell] = 2.0 - level
            distances = [centre - 40, centre - 40, 104 - centre, 104 - centre]
            sides[-1][0, :, cell, cell] = torch.tensor(distances) / stride
    logits[0][0, 0, 2, 3], sides[0][0, :, 2, 3] = 0.5, 1.5
    [found] = propose(SETTINGS.proposals, FirstStage(logits, sides), training=True)
    assert found.boxes.tolist() == [[40, 40, 104, 104], [16, 8, 40, 32]]


def test_equal_scores_at_the_limit_all_stay() -> None:
    logits = [torch.full((1, 1, 2, 2), 1.0) for _ in STRIDES]
    sides = [torch.full((1, 4, 2, 2), 0.4) for _ in STRIDES]
    few = SETTINGS.proposals.model_copy(update={"after_nms": 3})
    [found] = propose(few, FirstStage(logits, sides), training=True)
    assert len(found.boxes) == 20


def test_detections_of_given_scores_equal_the_official() -> None:
    boxes, scores = (torch.from_numpy(values) for values in scored_boxes())
    found = detect(SETTINGS.detections, boxes, scores, (128, 160))
    assert torch.equal(torch.from_numpy(found.boxes), golden("pieces.npz", "detections/boxes"))
    assert torch.equal(torch.from_numpy(found.scores), golden("pieces.npz", "detections/scores"))
    assert torch.equal(torch.from_numpy(found.classes), golden("pieces.npz", "detections/classes"))


def test_detections_without_area_are_dropped_in_another_size() -> None:
    boxes, scores = (torch.from_numpy(values) for values in scored_boxes())
    found = detect(SETTINGS.detections, boxes, scores, (128, 160))
    doubled = rescaled(found, (128, 160), (256, 320))
    assert torch.equal(torch.from_numpy(doubled.boxes), torch.from_numpy(found.boxes) * 2)
    found.boxes[0, 2] = found.boxes[0, 0]
    assert len(rescaled(found, (128, 160), (256, 320)).boxes) == len(found.boxes) - 1
