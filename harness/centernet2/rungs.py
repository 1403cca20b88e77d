"""A training step as a ladder: what each rung gives, in a step of its own or when it is fed what another step gave.

A rung that differs when it is fed the same as the reference is wrong by itself; all that come after it may differ for
its sake alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from harness.cards import Solver
from harness.centernet2.cases import Case
from harness.centernet2.head import FirstStage
from harness.centernet2.labels import Labelled
from harness.centernet2.model import Step
from harness.centernet2.port import Gradients, TrainingPort
from harness.training.devices import autocast

Rung = Literal[
    "batch", "features", "heads", "targets", "first-losses", "proposals", "matching", "pooled", "predictions",
    "stage-losses", "gradients", "clipped", "parameters",
]  # fmt: skip
RUNGS: tuple[Rung, ...] = get_args(Rung)
"""In the order in which a step computes them."""
Values = dict[str, Tensor]
"""What a rung gives, by names that tell what each is, on the CPU."""
SHORT: dict[str, Any] = {
    "base_lr": 0.001, "warmup_iterations": 2, "warmup_factor": 0.25, "steps": (3, 5), "iterations": 6,
}  # fmt: skip
"""A schedule in which warm-up, momentum, decay and clipping show within a few steps."""
RATES_AT = (0, 1, 100, 1999, 3999, 4000, 4001, 30000, 59999, 60000, 60001, 79999, 80000, 89999)
"""Iterations about the corners of the official schedule, at which learning rates are compared."""
OTHER_BATCHES = (8, 64)
"""Sizes of batches to which the schedule is scaled."""


def moved(value: Any, place: torch.device) -> Any:  # noqa: ANN401 - tensors in lists and named tuples, as given
    """Return tensors, also those within lists and named tuples, on a device, cut off from their gradients."""
    if isinstance(value, Tensor):
        return value.detach().to(place)
    if isinstance(value, dict):
        return {name: moved(one, place) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(one, place) for one in value))
    if isinstance(value, list | tuple):
        return type(value)(moved(one, place) for one in value)
    return value


def own_values(step: Step, rung: Rung) -> Values:
    """Return what a rung gave in a step; of the rungs that a step has before its gradients."""
    return _named(OF_STEP[rung](step))


def fed_values(port: TrainingPort, rung: Rung, case: Case, upstream: Step) -> Values:
    """Return what a rung of a port gives on a batch when it is fed what another step gave the rungs before it."""
    place = port.device.device()
    with autocast(place, port.precision):
        return _named(FED[rung](port, case, moved(upstream, place)))


def _named(found: dict[str, Tensor]) -> Values:
    return {name: value.detach().cpu() for name, value in found.items()}


def _levels(name: str, maps: Sequence[Tensor]) -> Values:
    return {f"{name} p{level}": one for level, one in enumerate(maps, 3)}


def _heads(heads: FirstStage) -> Values:
    return {**_levels("logits", heads.logits), **_levels("sides", heads.sides)}


def _of_images(name: str, found: Sequence[Any]) -> Values:
    return {
        f"{name} image {image} {part}": getattr(one, part) for image, one in enumerate(found) for part in one._fields
    }


def _matching(by_stage: Sequence[Sequence[Labelled]]) -> Values:
    return {
        name: value
        for stage, given in enumerate(by_stage)
        for name, value in _of_images(f"stage {stage}", given).items()
    }


def _in_order(pooled: Tensor, order: Tensor) -> Tensor:
    return pooled[order.argsort()]


OF_STEP: dict[Rung, Callable[[Step], Values]] = {
    "batch": lambda step: {"batch": step.batch},
    "features": lambda step: _levels("features", step.features),
    "heads": lambda step: _heads(step.heads),
    "targets": lambda step: dict(step.targets._asdict()),
    "first-losses": lambda step: {k: v for k, v in step.losses.items() if "centernet" in k},
    "proposals": lambda step: _of_images("proposals", step.proposals),
    "matching": lambda step: _matching([one.given for one in step.stages]),
    "pooled": lambda step: {f"stage {k}": _in_order(one.pooled, one.order) for k, one in enumerate(step.stages)},
    "predictions": lambda step: {
        f"stage {k} {name}": getattr(one, name) for k, one in enumerate(step.stages) for name in ("logits", "deltas")
    },
    "stage-losses": lambda step: {k: v for k, v in step.losses.items() if "centernet" not in k},
}
"""What a step has of each rung before its gradients."""


def _fed_features(port: TrainingPort, case: Case, upstream: Step) -> Values:
    del case
    with torch.no_grad():
        return _levels("features", port.model.features(upstream.batch))


def _fed_heads(port: TrainingPort, case: Case, upstream: Step) -> Values:
    del case
    with torch.no_grad():
        return _heads(port.model.heads(upstream.features))


def _fed_targets(port: TrainingPort, case: Case, upstream: Step) -> Values:
    return dict(port.model.targets(upstream.features, port.truth(case))._asdict())


def _fed_first_losses(port: TrainingPort, case: Case, upstream: Step) -> Values:
    """Return the losses, and their gradients by the heads."""
    del case
    leaves = FirstStage(*([one.requires_grad_() for one in maps] for maps in upstream.heads))
    losses = port.model.first_losses(leaves, upstream.targets, port.average)
    every = [*leaves.logits, *leaves.sides]
    back = torch.autograd.grad(torch.stack(list(losses.values())).sum(), every, allow_unused=True)
    gradients = [torch.zeros_like(one) if g is None else g for one, g in zip(every, back, strict=True)]
    count = len(leaves.logits)
    return {
        **losses,
        **_levels("gradient of logits", gradients[:count]),
        **_levels("gradient of sides", gradients[count:]),
    }


def _fed_matching(port: TrainingPort, case: Case, upstream: Step) -> Values:
    truth = port.truth(case)
    found = [port.model.first_boxes(upstream.proposals, truth, all_proposals=True)]
    for stage, given in enumerate(upstream.stages[:-1]):
        boxes = [one.boxes for one in given.given]
        found.append(port.model.roi_heads.next_boxes(stage, boxes, given.deltas, truth, upstream.sizes))
    return _matching(found)


def _fed_pooled(port: TrainingPort, case: Case, upstream: Step) -> Values:
    del case
    with torch.no_grad():
        return {
            f"stage {stage}": _in_order(*port.model.roi_heads.pooled(upstream.features, [g.boxes for g in one.given]))
            for stage, one in enumerate(upstream.stages)
        }


def _fed_predictions(port: TrainingPort, case: Case, upstream: Step) -> Values:
    """Return logits and deltas, and the gradient of the pooled features by their sum."""
    del case
    found: Values = {}
    for stage, one in enumerate(upstream.stages):
        pooled = one.pooled.requires_grad_()
        logits, deltas = port.model.roi_heads.predict(stage, pooled, one.order)
        (back,) = torch.autograd.grad(logits.float().sum() + deltas.float().sum(), pooled)
        found |= {f"stage {stage} logits": logits, f"stage {stage} deltas": deltas}
        found[f"stage {stage} gradient of pooled"] = _in_order(back, one.order)
    return found


def _fed_stage_losses(port: TrainingPort, case: Case, upstream: Step) -> Values:
    """Return the losses, and their gradients by logits and deltas."""
    del case
    found: Values = {}
    for stage, one in enumerate(upstream.stages):
        leaves = one.logits.float().requires_grad_(), one.deltas.float().requires_grad_()
        losses = port.model.roi_heads.stage_losses(stage, one.given, *leaves, port.average)
        back = torch.autograd.grad(torch.stack(list(losses.values())).sum(), leaves, allow_unused=True)
        found |= losses
        for name, leaf, gradient in zip(("logits", "deltas"), leaves, back, strict=True):
            found[f"stage {stage} gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return found


def _fed_gradients(port: TrainingPort, case: Case, upstream: Step) -> Values:
    """Return the losses of a whole step with the boxes of the other one, and its gradients."""
    losses = port.step(case, [one.given for one in upstream.stages]).losses
    return {**losses, **port.gradients(losses)}


FED: dict[Rung, Callable[[TrainingPort, Case, Step], Values]] = {
    "batch": lambda port, case, upstream: {"batch": port.model.batch(case.images)[0]},
    "features": _fed_features,
    "heads": _fed_heads,
    "targets": _fed_targets,
    "first-losses": _fed_first_losses,
    "proposals": lambda port, case, upstream: _of_images("proposals", port.model.proposals(upstream.heads)),
    "matching": _fed_matching,
    "pooled": _fed_pooled,
    "predictions": _fed_predictions,
    "stage-losses": _fed_stage_losses,
    "gradients": _fed_gradients,
}


def fed_proposals(port: TrainingPort, heads: FirstStage) -> Values:
    """Return the proposals that a port makes of heads alone."""
    return _named(_of_images("proposals", port.model.proposals(moved(heads, port.device.device()))))


def fed_clipped(port: TrainingPort, gradients: Gradients) -> Values:
    """Return what a port makes of gradients that it is given to clip."""
    return _named(port.clipped(moved(gradients, port.device.device())))


def fed_parameters(port: TrainingPort, clipped: Gradients) -> Values:
    """Return learning rates, and what three steps with given gradients and one with none change in each parameter.

    Decay of what should not decay hardly shows beside gradients: see `idle_changes`.
    """
    given = moved(clipped, port.device.device())
    with short_schedule(port) as before:
        optimizer = port.optimizer()
        for iteration in range(3):
            port.update(optimizer, iteration, given)
        changes = _changes(port, before)
    named = {f"change of {name}": change for name, change in changes.items()}
    named |= {f"decay of {name}": change for name, change in idle_changes(port).items()}
    return {"learning rates": learning_rates(port, port.solver), **_named(named)}


def idle_changes(port: TrainingPort) -> Gradients:
    """Return what one step with a learning rate of 1 changes in each parameter, where all gradients are 0.

    The gradient of whatever the optimizer holds is 0, and not missing: what it should not hold decays.
    """
    with short_schedule(port) as before:
        optimizer = port.optimizer()
        for group in optimizer.param_groups:
            group["lr"] = 1.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        return _changes(port, before)


@contextmanager
def short_schedule(port: TrainingPort) -> Iterator[Gradients]:
    """Give a port the `SHORT` schedule, and its own solver and parameters back afterwards.

    Yields:
        Its parameters as they were.
    """
    solver, port.solver = port.solver, port.solver.model_copy(update=SHORT)
    before = {name: parameter.detach().clone() for name, parameter in port.model.named_parameters()}
    try:
        yield before
    finally:
        port.solver = solver
        with torch.no_grad():
            for name, parameter in port.model.named_parameters():
                parameter.copy_(before[name])


def _changes(port: TrainingPort, before: Gradients) -> Gradients:
    return {name: parameter.detach() - before[name] for name, parameter in port.model.named_parameters()}


def learning_rates(port: TrainingPort, solver: Solver) -> Tensor:
    """Return the learning rates of a port at the corners of the official schedule, also of other batches, float64."""
    solvers = [port.scaled_to(solver, size) for size in (solver.batch_size, *OTHER_BATCHES)]
    return torch.tensor([[port.learning_rate(own, at) for at in RATES_AT] for own in solvers], dtype=torch.float64)


def later_losses(port: TrainingPort, case: Case, steps: int = 3) -> Values:
    """Return the losses of several steps by the `SHORT` schedule; the port has its parameters back afterwards."""
    found: Values = {}
    with short_schedule(port):
        optimizer = port.optimizer()
        for iteration in range(steps):
            losses = port.step(case).losses
            found |= {f"step {iteration + 1} {name}": loss.detach() for name, loss in losses.items()}
            port.update(optimizer, iteration, port.clipped(port.gradients(losses)))
    return _named(found)
