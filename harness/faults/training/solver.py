"""Mistakes in what happens to gradients: scale, clipping, schedule, momentum, decay, and the sharing by processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer

from harness.cards import Solver
from harness.centernet2.model import CenterNet2
from harness.centernet2.port import Gradients, TrainingPort
from harness.faults.training.fault import PORT, TrainingFault, override, with_solver
from harness.training.sgd import NORMALISATION


def _nesterov(port: TrainingPort) -> None:
    make = port.make_optimizer

    def made(model: CenterNet2, solver: Solver) -> SGD:
        optimizer = make(model, solver)
        for group in optimizer.param_groups:
            group["nesterov"] = True
        return optimizer

    port.make_optimizer = made


def _clip_by_norm(port: TrainingPort) -> None:
    def clip(parameters: Sequence[Parameter], solver: Solver) -> None:
        for parameter in parameters:
            clip_grad_norm_([parameter], solver.clip_value)

    port.clip = clip


def _not_clipped(port: TrainingPort) -> None:
    port.clip = lambda parameters, solver: None


def _counted_from_1(port: TrainingPort) -> None:
    rate = port.learning_rate
    port.learning_rate = lambda solver, iteration: rate(solver, iteration + 1)


def _not_scaled(port: TrainingPort) -> None:
    port.scaled_to = lambda solver, batch_size: solver.model_copy(update={"batch_size": batch_size})


def _scale_kept(port: TrainingPort) -> None:
    port.unscales = False


def _frozen_decayed(port: TrainingPort) -> None:
    make = port.make_optimizer

    def made(model: CenterNet2, solver: Solver) -> SGD:
        optimizer = make(model, solver)
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        optimizer.add_param_group({"params": frozen, "weight_decay": solver.weight_decay})
        return optimizer

    port.make_optimizer = made


def _biases_doubled(port: TrainingPort) -> None:
    make = port.make_optimizer

    def made(model: CenterNet2, solver: Solver) -> SGD:
        optimizer = make(model, solver)
        of_norm = {
            one for module in model.modules() if isinstance(module, NORMALISATION) for one in module.parameters()
        }
        biases = [one for name, one in model.named_parameters() if name.endswith(".bias") and one not in of_norm]
        trained = {one for one in biases if one.requires_grad}
        for group in optimizer.param_groups:
            group["params"] = [one for one in group["params"] if one not in trained]
        optimizer.add_param_group({"params": [one for one in biases if one in trained], "weight_decay": 0.0})
        # The rate of every group is set before each step.
        optimizer.register_step_pre_hook(partial(_multiply_last_rate, 2.0))
        optimizer.register_step_post_hook(partial(_multiply_last_rate, 0.5))
        return optimizer

    port.make_optimizer = made


def _multiply_last_rate(factor: float, optimizer: Optimizer, *_: object) -> None:
    optimizer.param_groups[-1]["lr"] *= factor


def _counts_not_shared(port: TrainingPort) -> None:
    port.shares_counts = False


def _summed(port: TrainingPort) -> None:
    def gradients(right: Callable[[Mapping[str, Tensor]], Gradients], losses: Mapping[str, Tensor]) -> Gradients:
        return {name: 2 * value for name, value in right(losses).items()}

    override(port, "gradients", gradients)


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"rung": "parameters", **values})


SOLVER_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="loss_scale_kept",
        rung="gradients",
        description="the loss scale is not divided out of the gradients",
        seen_in="static loss scales without unscale_ before the clipping",
        change=_scale_kept,
    ),
    _fault(
        id="gradients_summed",
        rung="gradients",
        description="gradients are twice as large: summed over two processes or two steps, and not averaged or cleared",
        seen_in="all_reduce without the division, and zero_grad left out",
        change=_summed,
    ),
    _fault(
        id="clip_by_norm",
        rung="clipped",
        description="the gradient of each tensor is clipped by its norm, not value by value",
        seen_in="CLIP_TYPE norm",
        change=_clip_by_norm,
    ),
    _fault(
        id="not_clipped",
        rung="clipped",
        description="gradients are not clipped",
        seen_in="fused optimizers of chips that replace the clipping one",
        change=_not_clipped,
    ),
    _fault(
        id="momentum_lost",
        description="there is no momentum",
        seen_in="fused optimizers of chips, and resumed trainings without the optimizer's state",
        change=with_solver(momentum=0.0),
    ),
    _fault(
        id="nesterov",
        description="momentum is Nesterov's",
        seen_in="SOLVER.NESTEROV True",
        change=_nesterov,
    ),
    _fault(
        id="no_warm_up",
        description="there is no warm-up",
        seen_in="schedules written anew",
        change=with_solver(warmup_iterations=0),
    ),
    _fault(
        id="decay_of_groupnorm",
        description="group norm has weight decay, too",
        seen_in="WEIGHT_DECAY_NORM left out",
        change=with_solver(weight_decay_norm=1e-4),
    ),
    _fault(
        id="unscaled_lr",
        description="the learning rate is not scaled with the batch size",
        seen_in="trainings with fewer cards than the recipe",
        change=_not_scaled,
    ),
    _fault(
        id="schedule_from_1",
        description="the schedule counts its iterations from 1",
        seen_in="loops that step the scheduler before the optimizer",
        change=_counted_from_1,
    ),
    _fault(
        id="frozen_layers_decayed",
        description="stem and res2 are in the optimizer, and decay",
        seen_in="fused optimizers that take all parameters and treat a missing gradient as zero",
        change=_frozen_decayed,
    ),
    _fault(
        id="bias_rate_doubled",
        description="biases have twice the learning rate, and no decay",
        seen_in="recipes of Caffe, and BIAS_LR_FACTOR 2 with WEIGHT_DECAY_BIAS 0",
        change=_biases_doubled,
    ),
    _fault(
        id="normalised_by_rank",
        rung="processes",
        description="each process divides its losses by its own counts, not by the mean over all processes",
        seen_in=f"{PORT}; NO_REDUCE True",
        change=_counts_not_shared,
        shown_on=("equal_sizes",),
    ),
)
