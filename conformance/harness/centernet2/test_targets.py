"""Truth and losses of the first stage equal the official code's, also where sizes, cells and boxes are on a border."""

import pytest
import torch

from conformance.support.centernet2_golden import equal_but_for_rounding, golden, golden_figures
from conformance.support.centernet2_recipe import TARGETS, first_stage
from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet2.head import FirstStage
from harness.centernet2.losses import first_stage_losses
from harness.centernet2.targets import STRIDES, Targets, make_targets

SETTINGS = load_two_stage_settings()


def made(case: str) -> Targets:
    (height, width), boxes = TARGETS[case]
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    return make_targets(SETTINGS.targets, shapes, [torch.tensor(own).reshape(-1, 4) for own in boxes])


@pytest.mark.parametrize("case", TARGETS)
def test_truth_equals_the_official(case: str) -> None:
    found = made(case)
    assert torch.equal(found.positives, golden("pieces.npz", f"targets/{case}/pos_inds"))
    assert torch.equal(found.rows, golden("pieces.npz", f"targets/{case}/reg_rows"))
    assert equal_but_for_rounding(found.sides, golden("pieces.npz", f"targets/{case}/reg_targets"))
    assert equal_but_for_rounding(found.heatmap, golden("pieces.npz", f"targets/{case}/heatmap"))


@pytest.mark.parametrize("case", TARGETS)
def test_losses_of_given_heads_equal_the_official(case: str) -> None:
    expected = golden_figures("pieces.json")["targets"][case]["official"]
    (height, width), boxes = TARGETS[case]
    heads = first_stage(case, height, width, len(boxes))
    leaves = FirstStage(*([one.requires_grad_() for one in part] for part in heads))
    losses = first_stage_losses(SETTINGS.loss, leaves, made(case))
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected["losses"], rel=5e-5)
    sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    for part, name in zip(leaves, ("logits", "regression"), strict=True):
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in part]
        norm = float(torch.cat([one.flatten() for one in gradients]).norm())
        assert norm == pytest.approx(expected[f"gradient_of_{name}"][0], rel=2e-3, abs=1e-12)


def test_a_count_of_all_processes_divides_the_losses() -> None:
    (height, width), boxes = TARGETS["base"]
    heads, targets = first_stage("base", height, width, len(boxes)), made("base")
    alone = first_stage_losses(SETTINGS.loss, heads, targets)
    shared = first_stage_losses(SETTINGS.loss, heads, targets, lambda count: count * 2)
    assert {name: float(loss) for name, loss in shared.items()} == pytest.approx(
        {name: float(loss) / 2 for name, loss in alone.items()}
    )
