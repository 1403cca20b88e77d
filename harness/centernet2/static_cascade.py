"""The cascade of box heads on a fixed number of boxes an image; see `harness.centernet2.cascade`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from harness.cards.centernet2 import Cascade
from harness.centernet2.boxes import decode, encode, has_area, overlaps
from harness.centernet2.cascade import LEAST_LEVEL, CascadeHeads, level_of
from harness.centernet2.losses import Average
from harness.centernet2.slots import Slots, StaticTruth
from harness.centernet2.targets import STRIDES


def static_stage_losses(
    heads: CascadeHeads,
    features: Sequence[Tensor],
    proposals: Slots,
    truth: StaticTruth,
    sizes: Tensor,
    average: Average,
    keys: Tensor | None = None,
) -> dict[str, Tensor]:
    """Run all stages in training, and return their losses by the official names.

    Args:
        heads: The stages.
        features: P3 to P7.
        proposals: Of each image.
        truth: Of each image.
        sizes: (N, 2) float32, height and width of each image without its padding.
        average: Applied to the number of boxes, by which the sums are divided.
        keys: (N, boxes or more) random numbers from 0 to 1 by which some boxes are drawn, see `draw`; None for all.
    """
    settings = heads.settings
    boxes, valid = proposals.boxes, proposals.valid
    if settings.append_truth:
        boxes, valid = torch.cat((boxes, truth.boxes), dim=1), torch.cat((valid, truth.valid), dim=1)
    if keys is not None:
        labels, _ = _label(settings, 0, boxes, truth)
        rows, valid = draw(settings, labels, valid, keys[:, : valid.shape[1]])
        boxes = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    found: dict[str, Tensor] = {}
    for stage, weights in enumerate(settings.weights):
        labels, matched = _label(settings, stage, boxes, truth)
        logits, deltas = _predict(heads, stage, features, boxes)
        count = average(valid.sum().float()).clamp(min=1)
        costs = F.cross_entropy(logits.float(), labels.flatten(), reduction="none")
        learnt = (valid & (labels < settings.classes)).flatten()
        unit = boxes.new_tensor((0.0, 0.0, 1.0, 1.0))
        source, target = (torch.where(learnt[:, None], one.reshape(-1, 4), unit) for one in (boxes, matched))
        off = (deltas.float() - encode(source, target, weights)).abs().sum(dim=1)
        found[f"loss_cls_stage{stage}"] = (costs * valid.flatten()).sum() / count
        found[f"loss_box_reg_stage{stage}"] = (off * learnt).sum() / count
        if stage + 1 < len(settings.weights):
            boxes = _moved(settings, stage, boxes, deltas.detach(), sizes)
            valid = valid & has_area(boxes.reshape(-1, 4)).reshape(valid.shape)
    return found


def draw(settings: Cascade, labels: Tensor, valid: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Draw the boxes that the cascade is trained on: foreground up to its share, and background for the rest.

    Args:
        settings: How many, and how many of them foreground at most.
        labels: (N, B), the number of classes for the background.
        valid: (N, B), boxes that there are.
        keys: (N, B) from 0 to 1; of foreground and of background, those with the greatest are drawn.

    Returns:
        (N, slots) int64 rows, and (N, slots) whether a slot is used.
    """
    slots = min(settings.batch, labels.shape[1])
    foreground = valid & (labels < settings.classes)
    most = min(int(settings.batch * settings.foreground), slots)
    surest, rows = (keys + 2).masked_fill(~foreground, 0.0).topk(most, dim=1)
    drawn = torch.zeros_like(keys).scatter(1, rows, surest)
    ranked = torch.where(valid & ~foreground, keys + 1, drawn)
    order, chosen = ranked.topk(slots, dim=1)
    return chosen, order > 0


def static_fused(
    heads: CascadeHeads, features: Sequence[Tensor], proposals: Slots, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the last boxes (N, B, 4) of each image, and their scores (N, B, classes + 1)."""
    settings, boxes, by_stage = heads.settings, proposals.boxes, list[Tensor]()
    for stage in range(len(settings.weights)):
        logits, deltas = _predict(heads, stage, features, boxes)
        by_stage.append(logits.float().softmax(dim=1))
        boxes = _moved(settings, stage, boxes, deltas, sizes)
    mean = (torch.stack(by_stage).sum(dim=0) / len(by_stage)).reshape(*boxes.shape[:2], -1)
    return boxes, (mean * proposals.scores[..., None]).sqrt()


def _label(settings: Cascade, stage: int, boxes: Tensor, truth: StaticTruth) -> tuple[Tensor, Tensor]:
    """Return the label (N, B) of each box, and the box (N, B, 4) of the object that it overlaps most."""
    labels, matched = [], []
    for own, objects, classes, valid in zip(boxes, *truth, strict=True):
        shared = overlaps(objects, own).masked_fill(~valid[:, None], -1.0)
        best, which = shared.max(dim=0)
        enough = best >= best.new_tensor(settings.overlaps[stage])
        labels.append(torch.where(enough, classes[which], settings.classes))
        matched.append(objects[which])
    return torch.stack(labels), torch.stack(matched)


def _predict(heads: CascadeHeads, stage: int, features: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and deltas of all slots, (N * B, ...)."""
    pooled = _pool(heads.settings, features, boxes)
    return heads.predict(stage, pooled, torch.arange(len(pooled), device=pooled.device))


def _pool(settings: Cascade, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Pool each box from the level of its size, (N * B, channels, resolution, resolution).

    Every level is asked for every box. A box of another level is handed over without area, for which nothing is added
    up, so that it costs next to nothing; what comes back of it is masked out all the same.
    """
    rows = boxes.reshape(-1, 4)
    image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
    levels = level_of(settings, rows)
    pooled: Tensor | None = None
    for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True), LEAST_LEVEL):
        here = levels == level
        own = torch.where(here[:, None], rows, 0.0)
        numbered = torch.cat((image[:, None].to(rows.dtype), own), dim=1).to(feature.dtype)
        found = roi_align(feature, numbered, settings.resolution, 1 / stride, settings.sampling_ratio, aligned=True)
        found = torch.where(here[:, None, None, None], found, 0.0)
        pooled = found if pooled is None else pooled + found
    assert pooled is not None
    return pooled


def _moved(settings: Cascade, stage: int, boxes: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
    """Return the boxes (N, B, 4) where the deltas (N * B, 4) of a stage lead, within the image."""
    moved = decode(boxes.reshape(-1, 4), deltas.float(), settings.weights[stage], settings.largest_growth)
    return in_images(moved.reshape(boxes.shape), sizes)


def in_images(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes (N, B, 4) with each corner moved into its image."""
    limits = torch.stack((sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]), dim=1)[:, None]
    return torch.minimum(boxes.clamp(min=0), limits)
