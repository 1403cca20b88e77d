"""A step with static shapes equals the dynamic one, and nothing in it hangs on values."""

from typing import Any

import pytest
import torch
from torch import nn

from conformance.support.sampled import sampled
from harness.cards import load_recipe
from harness.cards.recipe import StaticShapes
from harness.centernet2 import CenterNet2
from harness.centernet2.cases import BATCHES, Case, case_model, load_case
from harness.centernet2.labels import Truth
from harness.centernet2.port import TrainingPort
from harness.centernet2.slots import StaticTruth, dropped_text
from harness.centernet2.static import StaticInputs, static_inputs, static_step
from harness.errors import HarnessError
from harness.training.static_check import find_dynamic

CAPS = StaticShapes(truth=25, proposals=600, proposals_test=272)
"""No batch but two of larger images has as many proposals."""
MORE = StaticShapes(truth=25, proposals=2000, proposals_test=272)

DEFAULT = ("base", "all_images_empty", "tiny", "many")
"""Batches of the default run."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def narrow() -> CenterNet2:
    return case_model("narrow")


def objects(case: Case) -> list[Truth]:
    return [
        Truth(torch.from_numpy(own), torch.from_numpy(which))
        for own, which in zip(case.boxes, case.classes, strict=True)
    ]


def given(model: CenterNet2, case: Case, caps: StaticShapes = CAPS) -> StaticInputs:
    return static_inputs(model, case.images, objects(case), caps)


@pytest.mark.parametrize("name", sampled(BATCHES, DEFAULT))
def test_losses_and_gradients_equal_those_of_the_dynamic_step(narrow: CenterNet2, name: str) -> None:
    port, case = TrainingPort(narrow, load_recipe("centernet2_1x").solver), load_case(name)
    losses = port.step(case).losses
    gradients = port.gradients(losses)
    caps = MORE if name in ("many", "large") else CAPS
    found = static_step(narrow, given(narrow, case, caps), caps)
    own = port.gradients(found.losses)
    assert not found.dropped.any()
    assert {n: float(v.detach()) for n, v in found.losses.items()} == pytest.approx(
        {n: float(v.detach()) for n, v in losses.items()}, rel=1e-6, abs=1e-12
    )
    for parameter, gradient in gradients.items():
        assert float((own[parameter] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + 1e-12, parameter


def test_more_objects_than_slots_are_an_error(narrow: CenterNet2) -> None:
    with pytest.raises(HarnessError, match="image 0 of the batch has 25 objects, and there are 24 slots"):
        given(narrow, load_case("many"), CAPS.model_copy(update={"truth": 24}))


def test_more_proposals_than_slots_are_told(narrow: CenterNet2) -> None:
    few = CAPS.model_copy(update={"proposals": 100})
    found = static_step(narrow, given(narrow, load_case("base")), few)
    whole = TrainingPort(narrow, load_recipe("centernet2_1x").solver).step(load_case("base"))
    assert found.dropped.tolist() == [len(one.boxes) - 100 for one in whole.proposals]
    assert "proposals were dropped" in (dropped_text(found.dropped, few) or "")
    assert dropped_text(torch.zeros(2), few) is None


def test_card_of_the_recipe_has_slots_for_what_it_keeps() -> None:
    recipe = load_recipe("centernet2_1x")
    assert recipe.static_shapes is not None
    assert recipe.static_shapes.proposals >= 2000
    assert recipe.static_shapes.proposals_test >= 256


def static(model: CenterNet2, inputs: StaticInputs) -> torch.Tensor:
    return torch.stack(list(static_step(model, inputs, CAPS).losses.values())).sum()


def dynamic(model: CenterNet2, inputs: StaticInputs) -> object:
    features = model.features(inputs.batch)
    return model.targets(features, [Truth(*own) for own in zip(*inputs.truth[:2], strict=True)])


def stray(model: CenterNet2, inputs: StaticInputs) -> object:
    features = model.features(inputs.batch)
    return features[0] * torch.ones(features[0].shape)


def strayed_to_cuda(model: CenterNet2, inputs: StaticInputs) -> object:
    features = model.features(inputs.batch)
    return features[0] * torch.ones(features[0].shape).cuda()


def counted(model: CenterNet2, inputs: StaticInputs) -> object:
    return model.features(inputs.batch)[0].nonzero()


def test_static_step_has_no_shape_that_hangs_on_values(narrow: CenterNet2) -> None:
    inputs = given(narrow, load_case("base"))

    def step(model: CenterNet2, some: StaticInputs) -> None:
        static(model, some).backward()  # type: ignore[no-untyped-call]

    assert find_dynamic(narrow, step, inputs) is None
    assert find_dynamic(narrow, static, inputs, "cuda") is None  # and no tensor of another device


@pytest.mark.parametrize(
    ("step", "device", "file", "said"),
    [
        (dynamic, "cpu", "targets.py", "repeat_interleave"),
        (counted, "cpu", "test_static.py", "nonzero"),
        (stray, "cuda", "test_static.py", "same device"),
        (strayed_to_cuda, "cpu", "test_static.py", "same device"),
    ],
)
def test_line_that_is_not_static_is_named(narrow: CenterNet2, step: Any, device: str, file: str, said: str) -> None:  # noqa: ANN401
    found = find_dynamic(narrow, step, given(narrow, load_case("base")), device)
    assert found is not None
    assert found.file.name == file
    assert said in str(found)
    assert found.text in found.file.read_text().splitlines()[found.line - 1]


class Loss(nn.Module):
    """The sum of the losses as a module of tensors, as compilers take it."""

    def __init__(self, model: CenterNet2) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        batch: torch.Tensor,
        sizes: torch.Tensor,
        boxes: torch.Tensor,
        classes: torch.Tensor,
        valid: torch.Tensor,
    ) -> torch.Tensor:
        return static(self.model, StaticInputs(batch, sizes, StaticTruth(boxes, classes, valid)))


@pytest.mark.catalogue  # a quarter of a minute
def test_graph_compilers_take_the_loss_whole(narrow: CenterNet2) -> None:
    inputs = given(narrow, load_case("one_image"))
    batch, sizes, truth = inputs
    wanted = float(static(narrow, inputs).detach())
    exported = torch.export.export(Loss(narrow), (batch, sizes, *truth))
    assert float(exported.module()(batch, sizes, *truth).detach()) == wanted
    compiled: Any = torch.compile(Loss(narrow), fullgraph=True, backend="eager")
    assert float(compiled(batch, sizes, *truth).detach()) == wanted
