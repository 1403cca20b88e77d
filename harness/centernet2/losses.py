"""Losses of the first stage: a focal loss of the heatmap and a GIoU loss of the sides."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.cards.centernet2 import TwoStageLoss
from harness.centernet2.head import FirstStage, flat
from harness.centernet2.targets import Targets

Average = Callable[[Tensor], Tensor]
"""From a count of this process to its mean over all processes of a training."""


def of_one_process(count: Tensor) -> Tensor:
    """Return a count as it is: there is one process."""
    return count


def divisor(rows: Tensor, average: Average) -> Tensor:
    """Return the number of rows that a loss is divided by, at least 1.

    It is float32 whatever the rows are: bfloat16 has 8 bits, and counts 851 boxes as 852.

    Args:
        rows: (n, ...), on the device of the loss.
        average: From a count of this process to its mean over all.
    """
    return average(torch.tensor(len(rows), dtype=torch.float32, device=rows.device)).clamp(min=1)


def first_stage_losses(
    settings: TwoStageLoss, heads: FirstStage, targets: Targets, average: Average = of_one_process
) -> dict[str, Tensor]:
    """Return the losses of the first stage by their official names.

    Args:
        settings: Weights and exponents.
        heads: Of the batch.
        targets: Of the batch.
        average: Applied to the numbers of positives and of rows, by which the sums are divided.
    """
    logits, sides = flat(heads.logits)[:, 0], flat(heads.sides)
    count = divisor(targets.positives, average)
    positive, negative = focal_loss(settings, logits, targets)
    rows = divisor(targets.rows, average)
    location = giou_loss(sides[targets.rows], targets.sides)
    return {
        "loss_centernet_loc": settings.location * location / rows,
        "loss_centernet_agn_pos": settings.positive * positive / count,
        "loss_centernet_agn_neg": settings.negative * negative / count,
    }


def focal_loss(settings: TwoStageLoss, logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the sums over positives and over all cells of the focal loss.

    A positive costs ``-a (1 - p)^g log p``, any cell ``-(1 - a) p^g (1 - h)^b log(1 - p)`` with the heatmap h; cells of
    a probability p of `ignore_above` or more cost nothing as negatives.

    Args:
        settings: alpha a, gamma g, beta b.
        logits: (rows,).
        targets: Positives and heatmap.
    """
    probability = torch.sigmoid(logits.float()).clamp(settings.clamp, 1 - settings.clamp)
    own = probability[targets.positives]
    positive = torch.log(own) * (1 - own) ** settings.gamma
    negative = torch.log(1 - probability) * probability**settings.gamma * (1 - targets.heatmap) ** settings.beta
    negative = negative * (probability < settings.ignore_above)
    return -settings.alpha * positive.sum(), -(1 - settings.alpha) * negative.sum()


def giou_loss(sides: Tensor, truth: Tensor) -> Tensor:
    """Return the sum of 1 - GIoU of boxes about the same points; 1 is added to intersection and union.

    Args:
        sides: (n, 4) left, top, right, bottom, predicted.
        truth: (n, 4) likewise.
    """
    both, union, hull = giou_terms(sides.float(), truth.float())
    overlap = (both + 1) / (union + 1)
    return (1 - (overlap - (hull - union) / hull)).sum()


def giou_terms(sides: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return intersection, union and hull (n,) of boxes about the same points; see `giou_loss`."""
    inner, outer = torch.minimum(sides, truth), torch.maximum(sides, truth)
    both, hull = _area(inner), _area(outer)
    return both, _area(sides) + _area(truth) - both, hull


def _area(sides: Tensor) -> Tensor:
    return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
