"""NMS as an operator of the host: its results have fixed shapes, so that a graph can go through it.

A chip that has no NMS runs it on the host's processor; a graph compiler sees an operator of known shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms


@torch.library.custom_op("centernet_conformance::nms_slots", mutates_args=())
def _nms_slots(
    boxes: Tensor, scores: Tensor, valid: Tensor, limit: float, most: int, slots: int, groups: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    there = valid.nonzero()[:, 0]
    given = boxes[there], scores[there]
    kept = there[nms(*given, limit) if groups is None else batched_nms(*given, groups[there], limit)]
    if len(kept) > most:  # of equal scores at the limit, all are kept
        kept = kept[scores[kept] >= scores[kept[most - 1]]]
    index = torch.zeros(slots, dtype=torch.int64, device=boxes.device)
    found = min(len(kept), slots)
    index[:found] = kept[:found]
    is_kept = torch.arange(slots, device=boxes.device) < found
    return index, is_kept, torch.tensor(len(kept) - found, device=boxes.device)


@_nms_slots.register_fake
def _(
    boxes: Tensor, scores: Tensor, valid: Tensor, limit: float, most: int, slots: int, groups: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    del scores, valid, limit, most, groups
    return (
        boxes.new_empty(slots, dtype=torch.int64),
        boxes.new_empty(slots, dtype=torch.bool),
        boxes.new_empty((), dtype=torch.int64),
    )


def nms_slots(
    boxes: Tensor,
    scores: Tensor,
    valid: Tensor,
    limit: float,
    most: int,
    slots: int,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress boxes that overlap a better one, and put those that are kept into slots.

    Args:
        boxes: (n, 4).
        scores: (n,).
        valid: (n,), boxes that there are.
        limit: IoU beyond which a box is suppressed.
        most: Boxes that are kept; of equal scores at that place, all.
        slots: Of the result.
        groups: (n,) int64, where boxes suppress those of their own group alone.

    Returns:
        (slots,) int64 rows of `boxes`, the best first; (slots,) whether a slot is used; () boxes that found no slot.
    """
    found: tuple[Tensor, Tensor, Tensor] = _nms_slots(boxes, scores, valid, limit, most, slots, groups)
    return found
