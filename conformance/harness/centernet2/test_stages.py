"""Each stage of CenterNet2 equals the official code's when it is given what the official code gave it.

The first that is wrong by itself fails; in a whole step, all that come after it would fail as well.
"""

import pytest
import torch

from conformance.support.centernet2_golden import equal_but_for_rounding, golden
from harness.centernet2 import CenterNet2
from harness.centernet2.boxes import clipped, has_area
from harness.centernet2.cases import NARROW_SIZES, case_model, load_case
from harness.centernet2.head import FirstStage
from harness.centernet2.labels import Labelled, Truth, label, sample
from harness.centernet2.proposals import Proposed, propose
from harness.centernet2.targets import make_targets

LEVELS = range(3, 8)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def narrow() -> CenterNet2:
    return case_model("narrow")


def stage(key: str) -> torch.Tensor:
    return golden("narrow_stages.npz", key)


def features() -> list[torch.Tensor]:
    return [stage(f"train/features/p{level}") for level in LEVELS]


def heads() -> FirstStage:
    return FirstStage(*([stage(f"train/{name}/p{level}") for level in LEVELS] for name in ("logits", "regression")))


def truths() -> list[Truth]:
    _, boxes, classes = load_case("base")
    return [Truth(torch.from_numpy(own), torch.from_numpy(which)) for own, which in zip(boxes, classes, strict=True)]


def proposals(key: str) -> list[Proposed]:
    return [Proposed(stage(f"{key}/{image}/boxes"), stage(f"{key}/{image}/scores")) for image in range(2)]


def boxes_given_to(number: int) -> list[Labelled]:
    return [
        Labelled(*(stage(f"train/stage{number}/{image}/{part}") for part in ("boxes", "labels", "truth")))
        for image in range(2)
    ]


def ordered(given: Labelled) -> Labelled:
    """Sort the boxes, which the official code permutes even where it takes all of them."""
    order = sorted(range(len(given.boxes)), key=given.boxes.tolist().__getitem__)
    return Labelled(*(part[order] for part in given))


def require_equal(found: Labelled, expected: Labelled) -> None:
    assert equal_but_for_rounding(found.boxes, expected.boxes)
    assert torch.equal(found.labels, expected.labels.long())
    foreground = found.labels < 80  # the truth of the background has no meaning
    assert foreground.any()
    assert torch.equal(found.truth[foreground], expected.truth[foreground])


def test_targets(narrow: CenterNet2) -> None:
    shapes = [(one.shape[2], one.shape[3]) for one in features()]
    found = make_targets(narrow.settings.targets, shapes, [own.boxes for own in truths()])
    assert torch.equal(found.positives, stage("train/targets/pos_inds"))
    assert torch.equal(found.rows, stage("train/targets/reg_rows"))
    assert equal_but_for_rounding(found.sides, stage("train/targets/reg_targets"))
    assert equal_but_for_rounding(found.heatmap, stage("train/targets/heatmap"))


def test_proposals(narrow: CenterNet2) -> None:
    found = propose(narrow.settings.proposals, heads(), training=True)
    for ours, theirs in zip(found, proposals("train/proposals"), strict=True):
        assert equal_but_for_rounding(ours.boxes, theirs.boxes)
        assert equal_but_for_rounding(ours.scores, theirs.scores)


def test_boxes_of_the_first_stage_of_the_cascade(narrow: CenterNet2) -> None:
    for given, own, expected in zip(proposals("train/proposals"), truths(), boxes_given_to(0), strict=True):
        found = sample(narrow.settings.roi, given.boxes, own, all_proposals=True)
        require_equal(ordered(found), ordered(expected))


@pytest.mark.parametrize("number", range(3))
def test_logits_and_deltas(narrow: CenterNet2, number: int) -> None:
    boxes = [one.boxes for one in boxes_given_to(number)]
    with torch.no_grad():
        logits, deltas = narrow.roi_heads.predict(number, *narrow.roi_heads.pooled(features(), boxes))
    assert equal_but_for_rounding(logits[::4], stage(f"train/stage{number}/logits"), 1e-5)
    assert equal_but_for_rounding(deltas, stage(f"train/stage{number}/deltas"), 1e-5)


@pytest.mark.parametrize("number", range(2))
def test_boxes_of_the_next_stage(narrow: CenterNet2, number: int) -> None:
    given = [one.boxes for one in boxes_given_to(number)]
    moved = narrow.roi_heads.moved(number, given, stage(f"train/stage{number}/deltas"), NARROW_SIZES)
    for boxes, own, expected in zip(moved, truths(), boxes_given_to(number + 1), strict=True):
        require_equal(label(narrow.settings.roi, number + 1, boxes[has_area(boxes)], own), expected)


def test_fused_scores_of_an_inference(narrow: CenterNet2) -> None:
    with torch.no_grad():
        found = narrow.roi_heads.fused(features(), proposals("test/proposals_after_nms"), NARROW_SIZES)
    for image, (boxes, scores) in enumerate(found):
        expected = clipped(stage(f"test/stage2_boxes/{image}"), *NARROW_SIZES[image])
        assert equal_but_for_rounding(boxes, expected, 1e-5)
        assert equal_but_for_rounding(scores[::2], stage(f"test/fused_scores/{image}"), 1e-5)


def test_proposals_of_an_inference(narrow: CenterNet2) -> None:
    found = propose(narrow.settings.proposals, heads(), training=False)
    for ours, theirs in zip(found, proposals("test/proposals_after_nms"), strict=True):
        assert equal_but_for_rounding(ours.boxes, theirs.boxes, 1e-5)
        assert equal_but_for_rounding(ours.scores, theirs.scores, 1e-5)
