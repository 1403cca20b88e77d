"""Detections in a fixed number of slots equal the dynamic ones, and nothing on the way hangs on values."""

import pytest
import torch
from torch import Tensor, nn

from conformance.harness.centernet2.test_static import CAPS, DEFAULT
from conformance.support.sampled import sampled
from harness.cards.recipe import StaticShapes
from harness.centernet2 import CenterNet2
from harness.centernet2.cases import BATCHES, case_model, load_case
from harness.centernet2.slots import EMPTY
from harness.centernet2.static import static_detect
from harness.training.static_check import find_dynamic

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def narrow() -> CenterNet2:
    return case_model("narrow").eval()


def inputs(model: CenterNet2, name: str) -> tuple[Tensor, Tensor]:
    batch, sizes = model.batch(load_case(name).images)
    return batch, torch.tensor(sizes, dtype=torch.float32)


@pytest.mark.parametrize("name", sampled(BATCHES, DEFAULT))
def test_detections_equal_those_of_the_dynamic_model(narrow: CenterNet2, name: str) -> None:
    wanted = narrow(load_case(name).images)
    found = static_detect(narrow, *inputs(narrow, name), CAPS)
    assert not found.dropped.any()
    for image, expected in enumerate(wanted):
        count = len(expected.scores)
        assert count
        assert found.classes[image, :count].tolist() == expected.classes.tolist()
        assert found.scores[image, :count].tolist() == pytest.approx(expected.scores.tolist(), rel=1e-6)
        assert (found.boxes[image, :count] - torch.from_numpy(expected.boxes)).abs().max() < 1e-4  # pixels
        assert (found.classes[image, count:] == EMPTY).all()
        assert not found.scores[image, count:].any()
        assert not found.boxes[image, count:].any()


def test_more_proposals_than_slots_are_told(narrow: CenterNet2) -> None:
    few = StaticShapes(truth=25, proposals=1000, proposals_test=10)
    found = static_detect(narrow, *inputs(narrow, "base"), few)
    assert (found.dropped > 0).all()


def test_proposal_that_is_not_finite_is_left_out(narrow: CenterNet2) -> None:
    batch, sizes = inputs(narrow, "one_image")
    found = static_detect(narrow, torch.full_like(batch, torch.nan), sizes, CAPS)
    assert (found.classes == EMPTY).all()


class Detector(nn.Module):
    """Detection as a module of tensors, as exporters take it."""

    def __init__(self, model: CenterNet2) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        return static_detect(self.model, batch, sizes, CAPS)[:3]


def test_nothing_hangs_on_values_and_exporters_take_it_whole(narrow: CenterNet2) -> None:
    given = inputs(narrow, "one_image")
    for device in ("cpu", "cuda"):
        assert find_dynamic(narrow, lambda model, some: static_detect(model, *some, CAPS), given, device) is None
    exported = torch.export.export(Detector(narrow), given)
    for own, wanted in zip(exported.module()(*given), Detector(narrow)(*given), strict=True):
        assert torch.equal(own, wanted)
