"""A training step and the detections of CenterNet2 equal the official code's on the same weights."""

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from conformance.support.centernet2_golden import equal_but_for_rounding, golden, golden_figures
from harness.cards import load_recipe
from harness.centernet2 import CenterNet2, create_centernet2, training_step
from harness.centernet2.cases import (
    BATCHES,
    CLASSES,
    NARROW_SIZES,
    R50_BOXES,
    R50_SIZES,
    case_model,
    load_case,
    make_case,
)
from harness.centernet2.labels import Truth
from harness.centernet2.model import rescaled
from harness.errors import HarnessError
from harness.paths import data_path
from harness.training.sgd import make_optimizer, update
from harness.types import Detections

STAGES = "narrow_stages.npz"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def narrow() -> CenterNet2:
    return case_model("narrow")


def with_settings(**changes: Mapping[str, object]) -> CenterNet2:
    """Make the narrow model with other settings in some tables."""
    model = case_model("narrow")
    tables = {name: getattr(model.settings, name).model_copy(update=change) for name, change in changes.items()}
    model.settings = model.settings.model_copy(update=tables)
    return model


def entries(model: CenterNet2) -> dict[str, tuple[tuple[int, ...], str]]:
    parameters = dict(model.named_parameters())

    def kind(name: str) -> str:
        return "buffer" if name not in parameters else "param" if parameters[name].requires_grad else "frozen"

    return {name: (tuple(value.shape), kind(name)) for name, value in model.state_dict().items()}


def official_entries() -> dict[str, tuple[tuple[int, ...], str]]:
    lines = data_path("fixtures", "golden", "centernet2", "state_dict.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: (ast.literal_eval(shape), kind.removeprefix("param_")) for name, shape, _, kind in rows}


def test_names_shapes_and_frozen_parts_are_the_official_ones(narrow: CenterNet2) -> None:
    with torch.device("meta"):
        r50 = create_centernet2("r50")
    official = official_entries()
    assert len(official) == 330
    assert entries(r50) == official
    assert entries(narrow).keys() == official.keys()
    assert {name: kind for name, (_, kind) in entries(narrow).items()} == {n: kind for n, (_, kind) in official.items()}
    assert sum(parameter.numel() for parameter in narrow.parameters()) == 2_020_665
    assert sum(parameter.numel() for parameter in r50.parameters()) == 71_645_897


def test_network_of_another_name_is_an_error() -> None:
    with pytest.raises(HarnessError, match="no CenterNet2 named 'r51'"):
        create_centernet2("r51")


def test_features_and_heads_equal_the_official(narrow: CenterNet2) -> None:
    images, _, _ = load_case("base")
    with torch.no_grad():
        batch, sizes = narrow.batch(images)
        features = narrow.backbone(batch)
        heads = narrow.proposal_generator.centernet_head(features)
    assert sizes == list(NARROW_SIZES)
    assert equal_but_for_rounding(batch, golden(STAGES, "train/batch"))
    for level, (feature, logits, sides) in enumerate(zip(features, *heads, strict=True), 3):
        for found, name in ((feature, "features"), (logits, "logits"), (sides, "regression")):
            assert equal_but_for_rounding(found, golden(STAGES, f"train/{name}/p{level}"), 1e-5)


def require_step(model: CenterNet2, losses: Mapping[str, float], expected: Mapping[str, Any]) -> None:
    assert losses == pytest.approx(expected["losses"], rel=5e-5)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(gradients) == 107
    assert gradients.keys() == expected["gradients"].keys()
    for name, figures in expected["gradients"].items():
        gradient = gradients[name]
        assert float(0 if gradient is None else gradient.norm()) == pytest.approx(figures[0], rel=2e-3, abs=1e-12), name
    for name, values in expected["gradient_first_8"].items():
        gradient = gradients[name]
        assert gradient is not None
        largest = float(gradient.abs().max())
        assert gradient.flatten()[:8].tolist() == pytest.approx(values, abs=2e-3 * largest), name


def test_a_training_step_equals_the_official(narrow: CenterNet2) -> None:
    losses = training_step(narrow, *load_case("base"), all_proposals=True)
    require_step(narrow, losses, golden_figures("narrow_train.json")["step_all"])


def test_a_step_with_drawn_proposals_equals_the_official() -> None:
    model = with_settings(roi={"batch": 64})
    torch.manual_seed(0)
    losses = training_step(model, *load_case("base"))
    require_step(model, losses, golden_figures("narrow_train.json")["step_sampled"])


def test_losses_are_divided_by_exact_numbers_under_autocast(narrow: CenterNet2) -> None:
    counts: list[torch.Tensor] = []

    def listed(count: torch.Tensor) -> torch.Tensor:
        counts.append(count)
        return count

    images, boxes, classes = load_case("base")
    truth = [Truth(torch.from_numpy(own), torch.from_numpy(which)) for own, which in zip(boxes, classes, strict=True)]
    with torch.autocast("cpu", torch.bfloat16):
        narrow.step(images, truth, all_proposals=True, average=listed)
    assert [count.item() for count in counts[:2]] == [8, 65]
    assert {count.dtype for count in counts} == {torch.float32}


@pytest.mark.parametrize("case", BATCHES)
def test_losses_and_gradients_of_every_case_equal_the_official(narrow: CenterNet2, case: str) -> None:
    expected = golden_figures("narrow_stages.json")["behaviour"][case]
    losses = training_step(narrow, *load_case(case), all_proposals=True)
    assert losses == pytest.approx(expected["losses"], rel=5e-5, abs=1e-12)
    for group, norm in expected["gradient_norms"].items():
        found = [p.grad.flatten() for n, p in narrow.named_parameters() if n.startswith(group) and p.grad is not None]
        assert float(torch.cat(found).norm()) == pytest.approx(norm, rel=2e-3, abs=1e-12), group


def test_losses_without_foreground_equal_the_official() -> None:
    model = with_settings(roi={"append_truth": False})
    too_small = make_case(NARROW_SIZES[:1], (((40.0, 40.0, 40.6, 40.4),),))
    losses = training_step(model, *too_small, all_proposals=True)
    expected = golden_figures("narrow_stages.json")["behaviour"]["all_background"]
    assert losses == pytest.approx(expected["losses"], rel=5e-5, abs=1e-12)


def test_losses_of_few_proposals_equal_the_official() -> None:
    model = with_settings(proposals={"before_nms": 100, "after_nms": 50})
    losses = training_step(model, *load_case("base"), all_proposals=True)
    expected = golden_figures("narrow_stages.json")["behaviour"]["top_k_100_50"]
    assert losses == pytest.approx(expected["losses"], rel=5e-5)


SHORT = {"base_lr": 0.001, "warmup_iterations": 2, "warmup_factor": 0.25, "steps": (3, 5), "iterations": 6}


@pytest.mark.parametrize(("run", "changes"), [("official_3", {}), ("short_6", SHORT)])
def test_steps_of_the_solver_equal_the_official(run: str, changes: dict[str, object]) -> None:
    """Warm-up, momentum, decay, clipping and the steps of the schedule all show in them."""
    model, expected = case_model("narrow"), golden_figures("narrow_train.json")[run]
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    solver = load_recipe("centernet2_1x").solver.model_copy(update=changes)
    optimizer = make_optimizer(model, solver)
    assert [len(group["params"]) for group in optimizer.param_groups] == [99, 8]
    for step in expected["steps"]:
        losses = training_step(model, *load_case("base"), all_proposals=True)
        assert losses == pytest.approx(step["losses"], rel=1e-4)
        update(optimizer, solver, step["iteration"])
        assert optimizer.param_groups[0]["lr"] == pytest.approx(step["lr"], rel=1e-12)
    for name, parameter in model.named_parameters():
        change = float((parameter.detach() - start[name]).norm())
        assert change == pytest.approx(expected["parameters"][name][2], rel=2e-3), name
        assert parameter.requires_grad or change == 0


def require_same(found: Detections, boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor) -> None:
    """As sets: each of ours has one of theirs, and none is left."""
    left = list(zip(classes.tolist(), scores.tolist(), boxes.tolist(), strict=True))
    for class_, score, box in zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True):
        match = [
            other
            for other in left
            if other[0] == class_ and abs(other[1] - score) <= 1e-5 and np.abs(np.subtract(other[2], box)).max() <= 1e-3
        ]
        assert match, (class_, score, box)
        left.remove(match[0])
    assert not left


def test_detections_equal_the_official(narrow: CenterNet2) -> None:
    images, _, _ = load_case("base")
    for image, found in enumerate(narrow(images)):
        expected = [golden(STAGES, f"test/detections/{image}/{name}") for name in ("boxes", "scores", "classes")]
        require_same(found, *expected)


def test_detections_are_given_in_the_size_of_the_original(narrow: CenterNet2) -> None:
    images, _, _ = load_case("base")
    for image, (found, original) in enumerate(zip(narrow(images), ((256, 320), (144, 216)), strict=True)):
        large = rescaled(found, NARROW_SIZES[image], original)
        boxes, scores = (golden(STAGES, f"test/rescaled/{image}/{name}") for name in ("boxes", "scores"))
        require_same(large, boxes, scores, golden(STAGES, f"test/detections/{image}/classes"))


@pytest.mark.r50
def test_a_training_step_of_the_whole_network_equals_the_official() -> None:
    model = case_model("r50")
    losses = training_step(model, *make_case(R50_SIZES, R50_BOXES, CLASSES), all_proposals=True)
    require_step(model, losses, golden_figures("r50_train.json")["step_all"])
