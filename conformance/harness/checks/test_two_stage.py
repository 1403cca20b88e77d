"""Close calls of a two-stage detector, held to every decision of ports that are beside the reference by a little."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.cards.centernet2 import load_two_stage_settings
from harness.cards.tolerances import DetectionTolerance, load_tolerance
from harness.centernet2.model import detect
from harness.checks.two_stage import Candidates, close_calls, close_proposals
from harness.types import Detections

SETTINGS = load_two_stage_settings()
SIZE = (200, 200)


def allowed() -> DetectionTolerance:
    found = load_tolerance("fp32").detections
    assert found is not None
    return found


def candidates(*rows: tuple[float, float, float, float, float]) -> Candidates:
    """Candidates of class 0, each of x1, y1, x2, y2 and score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Candidates(table[:, :4], table[:, 4:], np.ones(len(table), bool))


def scores(found: Detections) -> list[float]:
    return [round(float(score), 4) for score in found.scores]


def test_score_next_to_the_threshold_may_be_detected_and_need_not() -> None:
    far = (100.0, 100.0, 150.0, 150.0)
    for score, must, may in ((0.0501, 1, 1), (0.050005, 0, 1), (0.049995, 0, 1), (0.0499, 0, 0)):
        calls = close_calls(SETTINGS.detections, candidates((*far, score)), allowed())
        assert (len(calls.must), len(calls.may)) == (must, may), score


def test_iou_next_to_the_limit_may_suppress_and_need_not() -> None:
    # Boxes 100 wide, one moved by x: IoU = (100 - x) / (100 + x), which is 0.7 at x = 17.647.
    for x, must, may in ((17.5, 1, 1), (17.6467, 1, 2), (17.6475, 1, 2), (17.8, 2, 2)):
        calls = close_calls(
            SETTINGS.detections, candidates((0, 0, 100, 100, 0.9), (x, 0, 100 + x, 100, 0.8)), allowed()
        )
        assert (len(calls.must), len(calls.may)) == (must, may), x


def test_of_two_equal_scores_either_may_suppress_the_other() -> None:
    calls = close_calls(SETTINGS.detections, candidates((0, 0, 100, 100, 0.5), (5, 0, 105, 100, 0.500005)), allowed())
    assert (scores(calls.must), len(calls.may)) == ([], 2)


def test_doubt_about_a_box_is_doubt_about_what_it_suppresses() -> None:
    boxes = ((0, 0, 100, 100, 0.9), (17.647, 0, 117.647, 100, 0.8), (25, 0, 125, 100, 0.7))
    calls = close_calls(SETTINGS.detections, candidates(*boxes), allowed())
    assert (scores(calls.must), scores(calls.may)) == ([0.9], [0.9, 0.8, 0.7])


def test_rank_next_to_the_last_may_be_detected_and_need_not() -> None:
    settings = SETTINGS.detections.model_copy(update={"top_k": 2})
    apart = [(60.0 * i, 0.0, 60.0 * i + 40, 40.0) for i in range(4)]
    rows = [(*box, score) for box, score in zip(apart, (0.9, 0.5, 0.499995, 0.4), strict=True)]
    calls = close_calls(settings, candidates(*rows), allowed())
    assert (scores(calls.must), scores(calls.may)) == ([0.9], [0.9, 0.5, 0.5])


def test_box_of_a_doubtful_proposal_is_never_owed_and_suppresses_nothing_for_sure() -> None:
    found = candidates((0, 0, 100, 100, 0.9), (5, 0, 105, 100, 0.8))
    doubtful = Candidates(found.boxes, found.scores, np.array([False, True]))
    calls = close_calls(SETTINGS.detections, doubtful, allowed())
    assert (scores(calls.must), scores(calls.may)) == ([], [0.9, 0.8])


@pytest.mark.parametrize("seed", range(8))
def test_no_port_beside_the_reference_is_called_wrong(seed: int) -> None:
    """Crowded boxes, many of which tie, chosen by the model's own rule after all of them have moved a little."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 60, (120, 2)).round()
    boxes = np.hstack([corner, corner + random.integers(20, 60, (120, 2))]).astype(np.float32)
    given = (random.integers(1, 40, (120, 3)) / 40).astype(np.float32)
    calls = close_calls(SETTINGS.detections, Candidates(boxes, given, np.ones(120, bool)), allowed())
    must, may = (
        set(zip(one.classes.tolist(), map(tuple, one.boxes.tolist()), strict=True)) for one in (calls.must, calls.may)
    )
    place = {tuple(box): box for box in boxes.tolist()}
    for _ in range(20):
        moved = boxes + random.uniform(-1, 1, boxes.shape).astype(np.float32) * np.float32(0.9 * allowed().corner)
        other = given + random.uniform(-1, 1, given.shape).astype(np.float32) * np.float32(0.9 * allowed().score)
        background = np.zeros((120, 1), np.float32)
        found = detect(
            SETTINGS.detections, torch.from_numpy(moved), torch.from_numpy(np.hstack([other, background])), SIZE
        )
        nearest = [min(place, key=lambda box: float(np.abs(np.array(box) - own).max())) for own in found.boxes]
        detected = set(zip(found.classes.tolist(), nearest, strict=True))
        assert must <= detected
        assert detected <= may
    assert len(may) < 300, "nearly everything is called close"


def test_proposals_that_tie_at_the_limit_are_kept_and_none_of_them_is_sure() -> None:
    settings = SETTINGS.proposals.model_copy(update={"after_nms_test": 3})
    boxes = np.array([(30.0 * i, 0, 30.0 * i + 20, 20) for i in range(6)], np.float32)
    rows, sure = close_proposals(settings, boxes, np.array([0.1, 0.9, 0.8, 0.5, 0.5, 0.5], np.float32), allowed())
    assert rows.tolist() == [1, 2, 3, 4, 5]
    assert sure.tolist() == [True, True, False, False, False]


def test_no_proposals_are_no_proposals() -> None:
    rows, sure = close_proposals(SETTINGS.proposals, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), allowed())
    assert (len(rows), len(sure)) == (0, 0)
