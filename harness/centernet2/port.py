"""A training of CenterNet2 as somebody has built it: what the check runs, and what a mistake changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD

from harness.cards import Solver
from harness.centernet2.cases import Case
from harness.centernet2.labels import Labelled, Truth
from harness.centernet2.losses import Average, of_one_process
from harness.centernet2.model import CenterNet2, Step
from harness.training import schedule, sgd
from harness.training.devices import TrainingDevice, autocast, training_device

Gradients = dict[str, Tensor]
"""By the official names of the parameters that are trained."""


@dataclass
class TrainingPort:
    """A training, made of parts that can be replaced.

    Attributes:
        model: On the device.
        solver: Learning rates, decay, clipping.
        device: Where it trains.
        precision: Of the layers.
        process: Number of the process on its host, where several train.
        loss_scale: Factor on the total before the backward pass.
        unscales: Whether the gradients are divided by it afterwards, as they should be.
        make_optimizer: See `harness.training.sgd`.
        clip: Changes gradients in place.
        learning_rate: From solver and iteration, counted from 0.
        scaled_to: From a solver and a batch size to the solver of such batches.
        shares_counts: Whether processes divide by the mean of their counts.
        average: From a count of this process to its mean over all.
        changed_truth: Applied to the objects of the batch.
    """

    model: CenterNet2
    solver: Solver
    device: TrainingDevice = field(default_factory=lambda: training_device("cpu"))
    precision: str = "fp32"
    process: int = 0
    loss_scale: float = 1.0
    unscales: bool = True
    make_optimizer: Callable[[CenterNet2, Solver], SGD] = sgd.make_optimizer
    clip: Callable[[Sequence[Parameter], Solver], None] = sgd.clip
    learning_rate: Callable[[Solver, int], float] = schedule.learning_rate
    scaled_to: Callable[[Solver, int], Solver] = schedule.scaled_to
    shares_counts: bool = True
    average: Average = of_one_process
    changed_truth: Callable[[list[Truth]], list[Truth]] = list

    def truth(self, case: Case) -> list[Truth]:
        """Return the objects of a batch as tensors on the device."""
        place = self.device.device(self.process)
        found = [
            Truth(torch.from_numpy(boxes).to(place).reshape(-1, 4), torch.from_numpy(classes).to(place))
            for boxes, classes in zip(case.boxes, case.classes, strict=True)
        ]
        return self.changed_truth(found)

    def step(self, case: Case, forced: Sequence[list[Labelled]] | None = None) -> Step:
        """Compute the losses of a batch on all proposals, and what leads to them.

        Args:
            case: The batch.
            forced: Boxes of every stage of the cascade, where they are not to be the model's own.
        """
        with autocast(self.device.device(self.process), self.precision):
            return self.model.step(
                case.images, self.truth(case), all_proposals=True, average=self.average, forced=forced
            )

    def gradients(self, losses: Mapping[str, Tensor]) -> Gradients:
        """Return the gradients of the sum of losses by the trained parameters; 0 where none comes back."""
        self.model.zero_grad(set_to_none=True)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        (total * self.loss_scale).backward()  # type: ignore[no-untyped-call]
        factor = 1 / self.loss_scale if self.unscales else 1.0
        return {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad * factor
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def losses_and_gradients(self, case: Case) -> tuple[dict[str, Tensor], Gradients]:
        """Return the losses of a batch and their gradients, also as processes of one image each would have them.

        Where the processes do not share their counts, losses and gradients are the means over the images alone.
        """
        images = range(len(case.images))
        parts = [case] if self.shares_counts else [case.alone(image) for image in images]
        losses, gradients = list[dict[str, Tensor]](), list[Gradients]()
        for part in parts:
            found = self.step(part).losses
            gradients.append(self.gradients(found))
            losses.append({name: loss.detach() for name, loss in found.items()})
        return _mean(losses), _mean(gradients)

    def clipped(self, gradients: Gradients) -> Gradients:
        """Return gradients as the solver clips them."""
        holders = [Parameter(value.clone()) for value in gradients.values()]
        for holder in holders:
            holder.grad = holder.detach().clone()
        self.clip(holders, self.solver)
        return {name: holder.grad for name, holder in zip(gradients, holders, strict=True) if holder.grad is not None}

    def optimizer(self) -> SGD:
        """Return the optimizer of a training that begins."""
        return self.make_optimizer(self.model, self.solver)

    def update(self, optimizer: SGD, iteration: int, gradients: Gradients) -> None:
        """Take the step of an iteration, counted from 0, with clipped gradients."""
        for name, parameter in self.model.named_parameters():
            parameter.grad = gradients[name].clone() if name in gradients else None
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(self.solver, iteration)
        optimizer.step()


def _mean(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}
