"""Mistakes in the head of the first stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from harness.centernet2.head import FirstStage, Scale
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import OFFICIAL, TrainingFault, override


def _groupnorm(**values: object) -> Callable[[TrainingPort], None]:
    def change(port: TrainingPort) -> None:
        for module in port.model.modules():
            if isinstance(module, nn.GroupNorm):
                for name, value in values.items():
                    setattr(module, name, value)

    return change


def _unbiased(port: TrainingPort) -> None:
    for module in port.model.modules():
        if isinstance(module, nn.GroupNorm):
            override(module, "forward", partial(_unbiased_forward, module))


def _unbiased_forward(module: nn.GroupNorm, right: object, x: Tensor) -> Tensor:
    del right
    groups = x.reshape(len(x), module.num_groups, -1)
    middle, spread = groups.mean(dim=2, keepdim=True), groups.var(dim=2, keepdim=True, unbiased=True)
    normed = ((groups - middle) / (spread + module.eps).sqrt()).reshape(x.shape)
    return normed * module.weight[:, None, None] + module.bias[:, None, None]


def _scales_without_gradient(port: TrainingPort) -> None:
    for scale in port.model.proposal_generator.centernet_head.scales:
        assert isinstance(scale, Scale)
        override(scale, "forward", partial(_scaled_only, scale))


def _scaled_only(scale: Scale, right: object, x: Tensor) -> Tensor:
    del right
    return x * scale.scale.detach()


def _one_scale(port: TrainingPort) -> None:
    head = port.model.proposal_generator.centernet_head

    def heads(right: Callable[..., FirstStage], features: Sequence[Tensor]) -> FirstStage:
        del right
        first = head.scales[0]
        assert isinstance(first, Scale)
        towers = [head.bbox_tower(feature) for feature in features]
        sides = [F.relu(first(head.bbox_pred(tower))) for tower in towers]
        return FirstStage([head.agn_hm(tower) for tower in towers], sides)

    override(port.model, "heads", heads)


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"seen_in": OFFICIAL, **values})


HEAD_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="groupnorm_eps",
        rung="heads",
        description="epsilon of group norm is 1e-3 in place of 1e-5",
        change=_groupnorm(eps=1e-3),
        seen_in="group norm of TensorFlow",
    ),
    _fault(
        id="groupnorm_groups",
        rung="heads",
        description="group norm has 16 groups in place of 32",
        change=_groupnorm(num_groups=16),
        seen_in="group norm written anew for a chip",
    ),
    _fault(
        id="groupnorm_unbiased",
        rung="heads",
        description="group norm divides by the unbiased variance, over n - 1",
        change=_unbiased,
        seen_in="group norm composed of operators with torch.var, whose default it is",
    ),
    _fault(
        id="scales_without_gradient",
        rung="gradients",
        description="the learnt scales of the levels have no gradient",
        change=_scales_without_gradient,
        seen_in="scales read by item() for an operator that multiplies by a number",
    ),
    _fault(
        id="one_scale_for_all_levels",
        rung="heads",
        description="the learnt scale of P3 is used on all levels",
        change=_one_scale,
        seen_in="heads exported once for all levels",
    ),
)
