"""Boxes are compared as sets; a decision nearer to its limit than rounding is told and not held against a device."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.cards import load_recipe
from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet2.cases import Case, case_model, load_case
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import own_values
from harness.checks.training.sets import compare_matching, compare_proposals, unmatched

SETTINGS = load_two_stage_settings()
BOXES = torch.tensor([[10.0, 10, 50, 60], [80, 20, 120, 90], [0, 0, 30, 30]])
SCORES = torch.tensor([0.9, 0.5, 0.3])


def proposals(boxes: Tensor = BOXES, scores: Tensor = SCORES) -> dict[str, Tensor]:
    return {"proposals image 0 boxes": boxes, "proposals image 0 scores": scores}


@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 2), max_size=6), st.lists(st.tuples(*[st.integers(0, 3)] * 2), max_size=6)
)
def test_rows_without_an_equal_are_those_of_a_naive_search(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    rows, others = (torch.tensor(some, dtype=torch.float32).reshape(-1, 2) for some in (one, other))
    found = unmatched(rows, others, torch.tensor([0.5, 1.0]))
    naive = [not any(abs(a[0] - b[0]) <= 0.5 and abs(a[1] - b[1]) <= 1.0 for b in other) for a in one]
    assert found.tolist() == naive


def test_order_of_proposals_does_not_count_and_their_boxes_do() -> None:
    order = torch.tensor([2, 0, 1])
    same = compare_proposals("case", SETTINGS, proposals(BOXES[order], SCORES[order]), proposals(), 1)
    assert not same.close
    assert same.comparisons[0].problem is None
    for wrong in (BOXES[:2], BOXES + torch.tensor([0.01, 0, 0, 0]), BOXES.repeat(2, 1)[:4] + torch.eye(4)[:, :4]):
        scores = SCORES.repeat(2)[: len(wrong)]
        found = compare_proposals("case", SETTINGS, proposals(wrong, scores), proposals(), 1)
        assert found.comparisons[0].problem is not None


def test_proposal_at_its_limit_is_told_and_passes() -> None:
    limit = SETTINGS.proposals.least_probability
    for score, close in ((limit**0.5 * (1 + 1e-7), True), (limit**0.5 * 1.01, False)):
        boxes = torch.cat((BOXES, torch.tensor([[100.0, 0, 110, 10]])))
        found = compare_proposals(
            "case", SETTINGS, proposals(boxes, torch.cat((SCORES, torch.tensor([score])))), proposals(), 1
        )
        assert bool(found.close) == close
        assert (found.comparisons[0].problem is None) == close


def test_proposal_of_an_overlap_at_the_limit_of_nms_is_told_and_passes() -> None:
    beside = torch.tensor([[200.0, 0, 300, 100]])
    for width, close in ((90.0, True), (90.1, False)):
        kept = torch.tensor([[200.0, 0, 200 + width, 100]])
        got = proposals(torch.cat((beside, kept)), torch.tensor([0.9, 0.8]))
        found = compare_proposals("case", SETTINGS, got, proposals(beside, torch.tensor([0.9])), 1)
        assert (found.comparisons[0].problem is None) == close, width


def matching(case: Case) -> dict[str, Tensor]:
    """What the model gives of a batch, by stage and image."""
    port = TrainingPort(case_model("narrow"), load_recipe("centernet2_1x").solver)
    return {name: value.detach() for name, value in own_values(port.step(case), "matching").items()}


def test_labels_of_boxes_count_and_the_truth_of_the_background_does_not() -> None:
    case = load_case("base")
    values = matching(case)
    shuffled = {}
    for name, value in values.items():
        order = torch.randperm(len(value), generator=torch.Generator().manual_seed(0))
        shuffled[name] = value[order]
    assert not any(one.problem for one in compare_matching("base", SETTINGS, shuffled, values, case).comparisons)
    labels = values["stage 1 image 0 labels"]
    background = {
        **values,
        "stage 1 image 0 truth": torch.where((labels == 80)[:, None], 7.0, values["stage 1 image 0 truth"]),
    }
    assert not any(one.problem for one in compare_matching("base", SETTINGS, background, values, case).comparisons)
    other = {**values, "stage 1 image 0 labels": torch.where(labels == 0, 5, labels)}
    failed = [one.what for one in compare_matching("base", SETTINGS, other, values, case).comparisons if one.problem]
    assert failed == ["base: stage 1 image 0"]


def test_match_at_the_limit_of_the_overlap_is_told_and_passes() -> None:
    truth = load_case("base")._replace(boxes=[torch.tensor([[0.0, 0, 100, 100]]).numpy()], classes=[], images=[])
    for width, close in ((60.0, True), (61.0, False)):
        box = torch.tensor([[0.0, 0, width, 100]])

        def values(label: int, boxes: Tensor = box) -> dict[str, Tensor]:
            named: dict[str, Tensor] = {}
            for stage in range(3):
                of_stage = label if stage == 0 else 80
                named[f"stage {stage} image 0 boxes"] = boxes
                named[f"stage {stage} image 0 labels"] = torch.tensor([of_stage])
                named[f"stage {stage} image 0 truth"] = torch.tensor([[0.0, 0, 100, 100]])
            return named

        found = compare_matching("case", SETTINGS, values(3), values(80), truth)
        assert (not any(one.problem for one in found.comparisons)) == close
        assert bool(found.close) == close


def test_box_without_area_is_no_close_call() -> None:
    """Boxes that are clipped away have no area to the bit: whoever keeps them makes a mistake."""
    truth = load_case("base")._replace(boxes=[torch.zeros(0, 4).numpy()], classes=[], images=[])
    empty, whole = torch.tensor([[160.0, 5, 160, 9]]), torch.zeros(0, 4)

    def values(boxes: Tensor) -> dict[str, Tensor]:
        parts = {"boxes": boxes, "labels": torch.full((len(boxes),), 80), "truth": torch.zeros(len(boxes), 4)}
        return {f"stage {stage} image 0 {part}": value for stage in range(3) for part, value in parts.items()}

    assert all(
        one.problem for one in compare_matching("case", SETTINGS, values(empty), values(whole), truth).comparisons
    )
