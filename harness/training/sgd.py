"""SGD as a recipe's solver states it: decay that spares normalisation, clipping by value, and the schedule."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn import Parameter
from torch.nn.utils import clip_grad_value_
from torch.optim import SGD

from harness.cards import Solver
from harness.training.schedule import learning_rate

NORMALISATION = (nn.GroupNorm, nn.BatchNorm2d, nn.LayerNorm)


def make_optimizer(model: nn.Module, solver: Solver) -> SGD:
    """Make the optimizer of the trained parameters; those of normalisation layers have a decay of their own."""
    of_norm = {
        parameter
        for module in model.modules()
        if isinstance(module, NORMALISATION)
        for parameter in module.parameters(recurse=False)
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one not in of_norm], "weight_decay": solver.weight_decay},
        {"params": [one for one in trained if one in of_norm], "weight_decay": solver.weight_decay_norm},
    ]
    return SGD(groups, lr=solver.base_lr, momentum=solver.momentum)


def clip(parameters: Sequence[Parameter], solver: Solver) -> None:
    """Clip each value of the gradients, not their norm."""
    clip_grad_value_(parameters, solver.clip_value)


def ready(optimizer: SGD, solver: Solver, iteration: int) -> float:
    """Clip the gradients, and set the learning rate of an iteration, counted from 0; return it."""
    rate = learning_rate(solver, iteration)
    for group in optimizer.param_groups:
        group["lr"] = rate
        clip(group["params"], solver)
    return rate


def update(optimizer: SGD, solver: Solver, iteration: int) -> None:
    """Clip the gradients and take the step of an iteration, counted from 0, at its learning rate."""
    ready(optimizer, solver, iteration)
    optimizer.step()
