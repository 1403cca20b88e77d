"""The losses of CenterNet: focal loss on the heatmap, L1 on wh and reg at the centres.

Zhou et al., "Objects as Points" (https://arxiv.org/abs/1904.07850), equations 1 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

WH_WEIGHT = 0.1
REG_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class TargetBatch:
    """Targets of N images.

    Attributes:
        hm: (N, classes, h, w).
        weight: (N, 1, h, w).
        index: (objects,) flat place (image, y, x) in the batch, image * h * w + y * w + x.
        wh: (objects, 2) in cells.
        reg: (objects, 2) in cells.
    """

    hm: Tensor
    weight: Tensor
    index: Tensor
    wh: Tensor
    reg: Tensor


def focal_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the penalty-reduced focal loss (alpha 2, beta 4): the sum over the number of centres (at least 1).

    Args:
        logits: (N, classes, h, w) heatmap before the sigmoid.
        target: (N, classes, h, w), exactly 1 at centres.
        weight: (N, 1, h, w) factor on places that are no centre.
    """
    p = torch.sigmoid(logits)
    centre = target.eq(1)
    positive = (functional.logsigmoid(logits) * (1 - p) ** 2)[centre].sum()
    negative = (functional.logsigmoid(-logits) * p**2 * (1 - target) ** 4 * weight * ~centre).sum()
    loss: Tensor = -(positive + negative) / centre.sum().clamp(min=1)
    return loss


def l1_at_centres(head: Tensor, index: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute difference of `head` (N, 2, h, w) at the places `index` from `target` (objects, 2)."""
    found = head.permute(0, 2, 3, 1).reshape(-1, head.shape[1])[index]
    return functional.l1_loss(found, target) if len(index) else found.sum()


def centernet_loss(heads: Mapping[str, Tensor], targets: TargetBatch) -> dict[str, Tensor]:
    """Compute the losses by head, and their weighted sum under ``total``."""
    losses = {
        "hm": focal_loss(heads["hm"].float(), targets.hm, targets.weight),
        "wh": l1_at_centres(heads["wh"].float(), targets.index, targets.wh),
        "reg": l1_at_centres(heads["reg"].float(), targets.index, targets.reg),
    }
    return {**losses, "total": losses["hm"] + WH_WEIGHT * losses["wh"] + REG_WEIGHT * losses["reg"]}
