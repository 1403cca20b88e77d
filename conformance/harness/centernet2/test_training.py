"""Training of CenterNet2: a run that goes on is the same run, and two processes are one training."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conformance.support.small_training import six_images
from harness.cards import load_recipe
from harness.cards.model import COCO_CATEGORY_IDS
from harness.cards.recipe import StaticShapes
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


CAPS = StaticShapes(truth=16, proposals=700, proposals_test=272, in_training=True)


def with_slots(caps: StaticShapes, iterations: int = 6) -> Settings:
    return replace(SIX, recipe=SMALL.model_copy(update={"static_shapes": caps}), iterations=iterations)


@pytest.mark.catalogue  # a quarter of a minute
def test_training_with_static_shapes_goes_on_bitwise_and_counts_what_it_drops(
    generated: Dataset, tmp_path: Path
) -> None:
    whole = train(made(generated, with_slots(CAPS, 4)), tmp_path / "whole")
    parts = tmp_path / "parts"
    train(made(generated, with_slots(CAPS, 2)), parts)
    assert equal(weights(train(made(generated, with_slots(CAPS, 4)), parts)), weights(whole))
    assert "dropped_proposals: 0  " in (parts / "log.txt").read_text()
    few = with_slots(CAPS.model_copy(update={"proposals": 5}), 3)
    train(made(generated, few), tmp_path / "few")
    first, both = (json.loads(line) for line in (tmp_path / "few" / "metrics.json").read_text().splitlines())
    assert first["dropped_proposals"] > 0
    assert both["dropped_proposals"] > first["dropped_proposals"]  # of two iterations: a sum
    with pytest.raises(HarnessError, match="other"):
        train(made(generated, SIX), parts)


def test_image_with_more_objects_than_slots_is_refused_before_any_work(generated: Dataset) -> None:
    with pytest.raises(HarnessError, match="objects, and there are 1 slots"):
        made(generated, with_slots(CAPS.model_copy(update={"truth": 1})))


def test_loss_scale_of_a_power_of_two_changes_no_bit(generated: Dataset, tmp_path: Path) -> None:
    plain = weights(train(made(generated, replace(SIX, iterations=2)), tmp_path / "plain"))
    scaled = train(made(generated, replace(SIX, iterations=2, loss_scale=65536.0)), tmp_path / "scaled")
    assert equal(weights(scaled), plain)


def test_half_precision_trains_with_a_scale_that_adapts_itself(generated: Dataset, tmp_path: Path) -> None:
    settings = replace(SIX, iterations=2, precision="fp16", loss_scale=None)
    train(made(generated, settings), tmp_path)
    saved = torch.load(tmp_path / "last.pth", weights_only=True)
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert saved["loss_scale"]


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(
    generated: Dataset, tmp_path: Path
) -> None:
    good = train(made(generated, replace(SIX, iterations=1)), tmp_path).read_bytes()
    training = made(generated, SIX)
    with torch.no_grad():
        next(iter(training.model.roi_heads.parameters())).fill_(torch.nan)
    training.restore = lambda _: 1  # type: ignore[method-assign] - it goes on, with weights that have gone wrong
    with pytest.raises(HarnessError, match="the loss is not finite: training has diverged"):
        train(training, tmp_path)
    assert (tmp_path / "last.pth").read_bytes() == good


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('run')",)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def executable(path: Path) -> None:
    torch.save({"model": Evil()}, path)


def of_another_network(path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    saved["model"] = {name: value.repeat_interleave(2, dim=0) for name, value in saved["model"].items()}
    torch.save(saved, path)


def without_optimizer(path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    del saved["optimizer"]
    torch.save(saved, path)


@pytest.mark.parametrize("change", [truncated, executable, of_another_network, without_optimizer])
def test_checkpoint_that_cannot_be_gone_on_from_is_refused_and_stays(
    generated: Dataset, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    training = made(generated, replace(SIX, iterations=1))
    path = tmp_path / "last.pth"
    torch.save(training.content(0), path)
    change(path)
    before = path.read_bytes()
    with pytest.raises(HarnessError, match=str(path)):
        train(training, tmp_path)
    assert path.read_bytes() == before


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
