"""Trainings of a few iterations: twice, interrupted, and interrupted with something lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.cards import load_recipe
from harness.cards.model import COCO_CATEGORY_IDS
from harness.centernet2.rungs import SHORT
from harness.centernet2.training import Settings, TwoStageTraining
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.data.dataset import load_coco
from harness.files.temporary import TemporaryFolder
from harness.run.training.options import BATCH
from harness.run.training.session import TrainingSession
from harness.run.training.together import case_files
from harness.run.training.worker import EDGE, SPLIT
from harness.training import checkpoint
from harness.training.devices import full_float32, training_device
from harness.training.loop import LAST, run
from harness.training.weights import load_tensors

STAGE = "training-resume"
HALF, WHOLE = 3, 6
"""Iterations before the interruption, and of the whole run."""
NOISE = 4
"""Multiple of the difference of two equal runs, where they differ at all, that an interruption may make."""

Lose = Callable[[dict[str, Any]], None]


def resume(session: TrainingSession, name: str) -> StageResult:
    """Hold an interrupted training to one that was not, and two equal ones to each other.

    On a CPU all bits are equal. Where a device adds up in an order of its own, two equal runs say how much that is. Two
    runs that go on without the momentum, or at another place in the data, must differ by more: else nothing was tested.
    """
    if session.dumps:
        return not_applicable(STAGE, BATCH, "the step was run elsewhere, and cannot be run again here")
    whole = _trained(session, name, WHOLE)
    noise = _apart(_trained(session, name, WHOLE), whole)
    allowed = 0.0 if training_device(name).device().type == "cpu" else NOISE * noise
    resumed = _apart(_resumed(session, name, lambda content: None), whole)
    controls = {"momentum": _apart(_resumed(session, name, _without_momentum), whole)}
    controls["place in the data"] = _apart(_resumed(session, name, _at_the_start), whole)
    count = sum(value.numel() for value in whole.values())
    found = [
        Comparison("two equal runs", noise, max(allowed, noise if allowed else 0.0), count, _differ(noise, allowed)),
        Comparison(f"{HALF} + {HALF} iterations", resumed, allowed, count, _differ(resumed, allowed)),
    ]
    for lost, off in controls.items():
        blind = None if off > allowed else "it makes no difference: this check cannot see what is lost"
        found.append(Comparison(f"gone on without {lost}, as a control", 0, 0, count, blind))
    return judge(STAGE, BATCH, found)


def _differ(off: float, allowed: float) -> str | None:
    return None if off <= allowed or (not allowed and not off) else f"parameters differ by {off:.3g} of their change"


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the norm of the difference of all parameters over the norm of their values that are trained."""
    off = sum(float((value.double() - other[name].double()).square().sum()) for name, value in one.items())
    size = sum(float(value.double().square().sum()) for value in other.values())
    return float((off / size) ** 0.5)


def _trained(session: TrainingSession, name: str, iterations: int) -> dict[str, Tensor]:
    with TemporaryFolder() as folder:
        return _run(session, name, Path(folder), iterations)


def _resumed(session: TrainingSession, name: str, lose: Lose) -> dict[str, Tensor]:
    """Train half, lose something of the checkpoint, and go on with it."""
    with TemporaryFolder() as folder:
        place = Path(folder)
        _run(session, name, place, HALF)
        content = load_tensors(place / LAST)
        lose(content)
        checkpoint.save(place / LAST, content)
        return _run(session, name, place, WHOLE)


def _without_momentum(content: dict[str, Any]) -> None:
    for state in content["optimizer"]["state"].values():
        state["momentum_buffer"].zero_()


def _at_the_start(content: dict[str, Any]) -> None:
    content["iteration"] = 0


def _run(session: TrainingSession, name: str, folder: Path, iterations: int) -> dict[str, Tensor]:
    weights, data = case_files(session)
    recipe = load_recipe("centernet2_1x")
    augmentation = recipe.augmentation.model_copy(update={"shortest_edges": (EDGE,)})
    solver = recipe.solver.model_copy(update={**SHORT, "batch_size": BATCH})
    changed = recipe.model_copy(update={"augmentation": augmentation, "solver": solver})
    settings = Settings(session.options.network, changed, iterations, precision=session.options.precision)
    device, dataset = training_device(name), load_coco(data, split=SPLIT)
    training = TwoStageTraining(settings, dataset, COCO_CATEGORY_IDS, device, weights=weights)
    with full_float32():
        run(training, folder)
    return {key: value.detach().cpu().clone() for key, value in training.model.named_parameters()}
