"""Judgements of a training with static shapes: it equals the dynamic one, and nothing in it hangs on values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.cards.tolerances import load_tolerance
from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.slots import EMPTY
from harness.centernet2.static import StaticDetections
from harness.checks.comparison import Comparison
from harness.checks.training.step import difference, relative
from harness.training.static_check import Finding
from harness.types import Detections


def compare_static_step(
    label: str,
    losses: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    expected_gradients: Mapping[str, Tensor],
) -> list[Comparison]:
    """Compare losses and gradients of a step with static shapes with those of the dynamic one, by name."""
    table = load_training_tolerances()
    found = [
        relative(f"{label}: {name}", float(losses[name].detach()), float(value.detach()), table.losses.relative)
        for name, value in expected.items()
    ]
    return found + [
        difference(f"{label}: gradient of {name}", gradients[name], value, table.gradients.relative)
        for name, value in expected_gradients.items()
    ]


def compare_static_detections(label: str, got: StaticDetections, expected: list[Detections]) -> list[Comparison]:
    """Compare detections in slots with those of the dynamic model, image by image, and require that the rest is empty.

    Detections of equal classes are compared in the order of their scores.
    """
    allowed = load_tolerance("fp32").detections
    assert allowed is not None
    found = []
    for image, wanted in enumerate(expected):
        what, count = f"{label}: detections of image {image}", len(wanted.scores)
        boxes, scores, classes = (part[image].cpu().numpy() for part in got[:3])
        used = int((classes != EMPTY).sum())
        if used != count or sorted(classes[:count]) != sorted(wanted.classes):
            problem = (
                f"expected {count} of classes {_counted(wanted.classes)}, got {used} of {_counted(classes[:used])}"
            )
            found.append(Comparison(what, float("inf"), 0, count, problem))
            continue
        own = np.lexsort((scores[:count], classes[:count]))
        other = np.lexsort((wanted.scores, wanted.classes))
        score_off = float(np.abs(scores[own] - wanted.scores[other]).max(initial=0))
        box_off = float(np.abs(boxes[own] - wanted.boxes[other]).max(initial=0))
        found += [
            _within(f"{what}: scores", score_off, allowed.score, count),
            _within(f"{what}: boxes in pixels", box_off, allowed.corner, count),
        ]
    return found


def _counted(classes: NDArray[np.int64]) -> str:
    names, counts = np.unique(classes, return_counts=True)
    return ", ".join(f"{name} ({count})" for name, count in zip(names, counts, strict=True)) or "none"


def _within(what: str, measured: float, allowed: float, count: int) -> Comparison:
    problem = None if measured <= allowed else f"off by {measured:.3g}"
    return Comparison(what, measured, allowed, count, problem)


def require_static(what: str, finding: Finding | None) -> Comparison:
    """Require that nothing in a computation hangs on values, or is on another device; name the line that does."""
    return Comparison(what, float(finding is not None), 0, 1, None if finding is None else str(finding))


def require_dropped(what: str, dropped: Tensor, expected: Tensor) -> Comparison:
    """Require that as many proposals are reported as dropped as there is no slot for."""
    right = torch.equal(dropped.cpu(), expected.cpu())
    problem = None if right else f"expected {expected.tolist()}, got {dropped.tolist()}"
    return Comparison(what, float(not right), 0, len(expected), problem)
