"""Training of CenterNet2: a run that goes on is the same run, and two processes are one training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conformance.support.small_training import six_images
from harness.cards import load_recipe
from harness.cards.model import COCO_CATEGORY_IDS
from harness.centernet2.run import Request, run
from harness.centernet2.training import Settings, TwoStageTraining, for_batches_of, train
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.training.devices import training_device

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE, _ = for_batches_of(load_recipe("centernet2_embedded"), 2)
SMALL = RECIPE.model_copy(
    update={"augmentation": RECIPE.augmentation.model_copy(update={"shortest_edges": (96, 128), "longest_edge": 192})}
)
SIX = Settings("narrow", SMALL, 6)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return six_images(tmp_path_factory.mktemp("data"))


def made(dataset: Dataset, settings: Settings) -> TwoStageTraining:
    return TwoStageTraining(settings, dataset, COCO_CATEGORY_IDS, training_device("cpu"))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["model"]
    return state


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_run_that_goes_on_is_bitwise_the_same_run(generated: Dataset, tmp_path: Path) -> None:
    whole = weights(train(made(generated, SIX), tmp_path / "whole"))
    parts = tmp_path / "parts"
    train(made(generated, replace(SIX, iterations=3)), parts)
    half = torch.load(parts / "last.pth", weights_only=True)
    assert equal(weights(train(made(generated, SIX), parts)), whole)
    records = [json.loads(line)["iteration"] for line in (parts / "metrics.json").read_text().splitlines()]
    assert records == [0, 2, 5]
    for state in half["optimizer"]["state"].values():
        state["momentum_buffer"].zero_()
    torch.save(half, parts / "last.pth")
    assert not equal(weights(train(made(generated, SIX), parts)), whole)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"precision": "bf16"}, {"fixed_shape": (192, 192)}])
def test_checkpoint_of_other_settings_is_refused(
    generated: Dataset, tmp_path: Path, changed: dict[str, object]
) -> None:
    train(made(generated, replace(SIX, iterations=1)), tmp_path)
    with pytest.raises(HarnessError, match="other"):
        train(made(generated, replace(SIX, **changed)), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "said"), [((100, 192), "100 x 192"), ((96, 96), "does not fit into 96 x 96")])
def test_shape_that_cannot_hold_the_images_is_refused(generated: Dataset, shape: tuple[int, int], said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        made(generated, replace(SIX, fixed_shape=shape))


@pytest.mark.parametrize("changed", [{"loss_scale": "0"}, {"fixed_shape": "8"}, {"device": "npu"}, {"seed": -1}])
def test_request_that_cannot_be_met_is_an_error(generated: Dataset, tmp_path: Path, changed: dict[str, object]) -> None:
    request = Request(
        "narrow", COCO_CATEGORY_IDS, "centernet2_embedded", 2, 1, 0, "cpu", "fp32", None, None, 1, None, tmp_path
    )
    with pytest.raises(HarnessError):
        run(replace(request, **changed), generated, [], [], half=False)  # type: ignore[arg-type]
