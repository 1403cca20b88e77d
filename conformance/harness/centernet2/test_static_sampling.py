"""Boxes that are drawn into a fixed number of slots are as many, and of the kinds, that the dynamic draw has."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conformance.harness.centernet2.test_static import CAPS
from conformance.harness.centernet2.test_static import given as given_of
from harness.cards import load_recipe
from harness.cards.centernet2 import Cascade, load_two_stage_settings
from harness.centernet2.cases import case_model, load_case
from harness.centernet2.labels import Labelled, choose, label
from harness.centernet2.port import TrainingPort
from harness.centernet2.static import boxes_to_draw_from, static_step
from harness.centernet2.static_cascade import draw

ROI = load_two_stage_settings().roi
CELLS = 16 * 20 + 8 * 10 + 4 * 5 + 2 * 3 + 1 * 2
"""Of all levels of 128 x 160 pixels: there are no more slots for proposals."""


def cascade(batch: int, foreground: float = 0.25) -> Cascade:
    return ROI.model_copy(update={"batch": batch, "foreground": foreground})


@given(
    kinds=st.lists(st.sampled_from(["foreground", "background", "empty"]), min_size=1, max_size=60),
    batch=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.25, 1.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_as_many_of_each_kind_are_drawn_as_dynamically(kinds: list[str], batch: int, share: float, seed: int) -> None:
    labels = torch.tensor([3 if kind == "foreground" else ROI.classes for kind in kinds])
    valid = torch.tensor([kind != "empty" for kind in kinds])
    keys = torch.rand(1, len(kinds), generator=torch.Generator().manual_seed(seed))
    rows, used = draw(cascade(batch, share), labels[None], valid[None], keys)
    drawn = rows[0][used[0]]
    assert rows.shape == (1, min(batch, len(kinds)))
    assert valid[drawn].all()
    assert len(set(drawn.tolist())) == len(drawn)
    wanted = labels[valid][choose(cascade(batch, share), labels[valid])]
    assert labels[drawn].bincount(minlength=81).tolist() == wanted.bincount(minlength=81).tolist()


def test_each_box_of_a_kind_is_drawn_as_often() -> None:
    labels = torch.tensor([1] * 10 + [ROI.classes] * 30).expand(4000, -1)
    keys = torch.rand(4000, 40, generator=torch.Generator().manual_seed(0))
    rows, used = draw(cascade(16), labels, torch.ones_like(labels, dtype=torch.bool), keys)
    assert used.all()
    share = rows.flatten().bincount(minlength=40) / 4000
    assert share[:10].tolist() == pytest.approx([0.4] * 10, abs=0.04)  # 4 of 10, within 5 standard deviations
    assert share[10:].tolist() == pytest.approx([0.4] * 30, abs=0.04)  # 12 of 30


def test_greatest_key_below_one_is_not_taken_for_another_kind() -> None:
    labels = torch.tensor([[1, ROI.classes, ROI.classes]])
    keys = torch.tensor([[0.0, 1 - 2**-24, 0.5]])
    rows, used = draw(cascade(2, 0.5), labels, torch.ones_like(labels, dtype=torch.bool), keys)
    assert (rows.tolist(), used.all().item()) == ([[0, 1]], True)


@pytest.mark.usefixtures("one_thread")
def test_losses_of_drawn_boxes_equal_those_of_the_dynamic_step_on_the_same_boxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, case = case_model("narrow"), load_case("base")
    few = model.settings.roi.model_copy(update={"batch": 64})
    model.roi_heads.settings = few
    inputs = given_of(model, case)
    keys = torch.rand(2, boxes_to_draw_from(model, CAPS), generator=torch.Generator().manual_seed(0))
    chosen: list[Tensor] = []

    def noted(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        rows, used = draw(*arguments)  # type: ignore[arg-type]
        chosen.extend(own[there] for own, there in zip(rows, used, strict=True))
        return rows, used

    monkeypatch.setattr("harness.centernet2.static_cascade.draw", noted)
    found = static_step(model, inputs, CAPS, keys=keys)

    port = TrainingPort(model, load_recipe("centernet2_1x").solver)
    whole = port.step(case)
    boxes = []
    for image, (own, objects) in enumerate(zip(whole.proposals, port.truth(case), strict=True)):
        slots = torch.zeros(CELLS + CAPS.truth, 4)
        slots[: len(own.boxes)] = own.boxes
        slots[CELLS : CELLS + len(objects.boxes)] = objects.boxes
        assert len(chosen[image]) == 64
        boxes.append(label(few, 0, slots[chosen[image]], objects))
    monkeypatch.setattr(model, "first_boxes", lambda *_, **__: [Labelled(*one) for one in boxes])
    wanted = port.step(case).losses
    assert {n: float(v.detach()) for n, v in found.losses.items()} == pytest.approx(
        {n: float(v.detach()) for n, v in wanted.items()}, rel=1e-6
    )
    assert float(wanted["loss_cls_stage0"].detach()) != pytest.approx(
        float(whole.losses["loss_cls_stage0"].detach()), rel=1e-3
    )
