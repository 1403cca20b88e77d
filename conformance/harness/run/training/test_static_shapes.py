"""Static shapes that compute something else, drop in silence or hang on values after all are found and named."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cards.recipe import StaticShapes
from harness.centernet2.static import StaticDetections, StaticStep, static_detect, static_step
from harness.run.training import static_shapes
from harness.run.training.options import parse_training_options
from harness.run.training.session import TrainingSession

CAPS = StaticShapes(truth=10, proposals=450, proposals_test=272)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSession:
    monkeypatch.setattr(static_shapes, "CASES", ("one_image",))
    return TrainingSession(parse_training_options(), tmp_path, lambda text: None)


def scaled(found: StaticStep) -> StaticStep:
    return found._replace(losses={name: loss * 1.001 for name, loss in found.losses.items()})


def silent(found: StaticStep) -> StaticStep:
    return found._replace(dropped=torch.zeros_like(found.dropped))


def dynamic(found: StaticStep) -> StaticStep:
    next(iter(found.losses.values())).item()
    return found


def left_behind(found: StaticStep) -> StaticStep:
    return found._replace(losses={name: loss * torch.ones(1) for name, loss in found.losses.items()})


def moved(found: StaticDetections) -> StaticDetections:
    return found._replace(boxes=found.boxes + 0.01 * (found.scores > 0)[..., None])


def fewer(found: StaticDetections) -> StaticDetections:
    return found._replace(classes=found.classes.masked_fill(found.scores < 0.5, -1))


@pytest.mark.parametrize(
    ("name", "right", "change", "said"),
    [
        ("static_step", static_step, scaled, "one_image: loss_cls_stage0: "),
        pytest.param("static_step", static_step, silent, "proposals beyond the slots: ", marks=pytest.mark.catalogue),
        ("static_step", static_step, dynamic, r"test_static_shapes.py:\d+: the shape hangs on values"),
        pytest.param(
            "static_step",
            static_step,
            left_behind,
            r"\.py:\d+: Expected all tensors to be on the same device",
            marks=pytest.mark.catalogue,
        ),
        ("static_detect", static_detect, moved, "boxes in pixels: measured 0.01"),
        pytest.param("static_detect", static_detect, fewer, "detections of image 0: ", marks=pytest.mark.catalogue),
    ],
)
def test_mistake_is_found(
    session: TrainingSession,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    right: Callable[..., Any],
    change: Callable[[Any], Any],
    said: str,
) -> None:
    monkeypatch.setattr(static_shapes, name, lambda *given: change(right(*given)))
    result = static_shapes.static_shapes(session, "cpu", CAPS)
    assert not result.is_green
    assert re.search(said, result.message("cpu", "fp32"))
