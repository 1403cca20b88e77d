"""A training step without any shape that hangs on the data, as an NPU or a graph compiler needs it, and exact.

Every number of objects, proposals and boxes is fixed; what is not used is masked out of sums. The layers and their
parameters are those of `CenterNet2`. NMS is an operator of the host (`harness.centernet2.static_nms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

from harness.cards.recipe import StaticShapes
from harness.centernet2.boxes import decode, encode, has_area, overlaps
from harness.centernet2.cascade import LEAST_LEVEL, level_of
from harness.centernet2.head import FirstStage, flat
from harness.centernet2.losses import Average, giou_terms, of_one_process
from harness.centernet2.model import CenterNet2
from harness.centernet2.static_nms import nms_slots
from harness.centernet2.static_targets import StaticTargets, static_targets
from harness.centernet2.targets import STRIDES, centres_of_cells
from harness.errors import HarnessError
from harness.types import Float32


class StaticTruth(NamedTuple):
    """Objects of a batch in a fixed number of slots.

    Attributes:
        boxes: (N, T, 4) x1, y1, x2, y2 in pixels of the network input; 0 where a slot is empty.
        classes: (N, T) int64.
        valid: (N, T) bool, whether a slot holds an object.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class Slots(NamedTuple):
    """Boxes of a batch in a fixed number of slots.

    Attributes:
        boxes: (N, B, 4).
        scores: (N, B), 0 where a slot is empty.
        valid: (N, B) bool.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


class StaticStep(NamedTuple):
    """What a static step gives.

    Attributes:
        losses: By their official names.
        dropped: (N,) int64, proposals of each image for which there was no slot.
    """

    losses: dict[str, Tensor]
    dropped: Tensor


def in_slots(
    boxes: Sequence[Float32], classes: Sequence[NDArray[np.int64]], caps: StaticShapes, device: torch.device
) -> StaticTruth:
    """Put the objects of each image into slots.

    Raises:
        HarnessError: An image has more objects than slots: which of them should be left out is nobody's to guess.
    """
    count = len(boxes)
    truth = StaticTruth(
        torch.zeros(count, caps.truth, 4),
        torch.zeros(count, caps.truth, dtype=torch.int64),
        torch.zeros(count, caps.truth, dtype=torch.bool),
    )
    for image, (own, which) in enumerate(zip(boxes, classes, strict=True)):
        if len(own) > caps.truth:
            raise HarnessError(
                f"image {image} of the batch has {len(own)} objects, and there are {caps.truth} slots",
                field="static_shapes.truth",
                remedy="give more slots on the recipe card",
            )
        truth.boxes[image, : len(own)] = torch.from_numpy(own)
        truth.classes[image, : len(own)] = torch.from_numpy(which)
        truth.valid[image, : len(own)] = True
    return StaticTruth(*(part.to(device) for part in truth))


def static_step(
    model: CenterNet2,
    batch: Tensor,
    sizes: Tensor,
    truth: StaticTruth,
    caps: StaticShapes,
    average: Average = of_one_process,
) -> StaticStep:
    """Compute the nine losses of a batch on all proposals.

    Args:
        model: Whose layers are run.
        batch: (N, 3, H, W), normalised and padded.
        sizes: (N, 2) float32, height and width of each image without its padding.
        truth: Of the batch.
        caps: Numbers of slots.
        average: From a count of this process to its mean over all.
    """
    features = model.features(batch)
    heads = model.heads(features)
    shapes = [(int(one.shape[2]), int(one.shape[3])) for one in features]
    targets = static_targets(model.settings.targets, shapes, truth.boxes, truth.valid)
    first = _first_losses(model, heads, targets, average)
    proposals, dropped = _propose(model, heads, caps)
    losses = _cascade(model, features, proposals, truth, sizes, average)
    return StaticStep({**losses, **first}, dropped)


def dropped_text(dropped: Tensor, caps: StaticShapes) -> str | None:
    """Say for how many proposals there was no slot; None where there was one for each."""
    most = int(dropped.max())
    if not most:
        return None
    number = int(dropped.sum())
    return f"{number} proposals were dropped, up to {most} of an image: static_shapes.proposals is {caps.proposals}"


def _first_losses(model: CenterNet2, heads: FirstStage, targets: StaticTargets, average: Average) -> dict[str, Tensor]:
    settings = model.settings.loss
    logits, sides = flat(heads.logits)[:, 0], flat(heads.sides).float()
    probability = torch.sigmoid(logits.float()).clamp(settings.clamp, 1 - settings.clamp)
    count = average(targets.is_positive.sum().float()).clamp(min=1)
    own = probability[targets.positives]
    positive = (torch.log(own) * (1 - own) ** settings.gamma * targets.is_positive).sum()
    negative = torch.log(1 - probability) * probability**settings.gamma * (1 - targets.heatmap) ** settings.beta
    negative = (negative * (probability < settings.ignore_above)).sum()
    rows = average(targets.takes_part.sum().float()).clamp(min=1)
    learnt = targets.takes_part[:, None]
    both, union, hull = giou_terms(torch.where(learnt, sides, 1.0), torch.where(learnt, targets.sides, 1.0))
    location = ((1 - ((both + 1) / (union + 1) - (hull - union) / hull)) * targets.takes_part).sum()
    return {
        "loss_centernet_loc": settings.location * location / rows,
        "loss_centernet_agn_pos": settings.positive * -settings.alpha * positive / count,
        "loss_centernet_agn_neg": settings.negative * -(1 - settings.alpha) * negative / count,
    }


@torch.no_grad()
def _propose(model: CenterNet2, heads: FirstStage, caps: StaticShapes) -> tuple[Slots, Tensor]:
    """Return the proposals of each image in slots, and how many found none."""
    settings = model.settings.proposals
    boxes, scores, valid = [], [], []
    for logits, sides, stride in zip(heads.logits, heads.sides, STRIDES, strict=True):
        height, width = logits.shape[2:]
        centres = centres_of_cells((height, width), stride, logits.device)
        probability = torch.sigmoid(logits.float()).flatten(1)
        chosen = probability.masked_fill(probability <= settings.least_probability, -1.0)
        best, cells = chosen.topk(min(settings.before_nms, height * width), dim=1)
        distance = sides.float().flatten(2).transpose(1, 2) * stride
        distance = distance.gather(1, cells[..., None].expand(-1, -1, 4))
        upper_left = centres[cells] - distance[..., :2]
        lower_right = torch.maximum(centres[cells] + distance[..., 2:], upper_left + settings.least_side)
        boxes.append(torch.cat((upper_left, lower_right), dim=2))
        valid.append(best > 0)
        scores.append(best.clamp(min=0).sqrt())
    joined = Slots(torch.cat(boxes, dim=1), torch.cat(scores, dim=1), torch.cat(valid, dim=1))
    found = [
        nms_slots(one, score, there, settings.nms, settings.after_nms, caps.proposals)
        for one, score, there in zip(*joined, strict=True)
    ]
    kept, is_kept, dropped = (torch.stack(parts) for parts in zip(*found, strict=True))
    chosen_boxes = joined.boxes.gather(1, kept[..., None].expand(-1, -1, 4)) * is_kept[..., None]
    return Slots(chosen_boxes, joined.scores.gather(1, kept) * is_kept, is_kept), dropped


def _cascade(
    model: CenterNet2,
    features: Sequence[Tensor],
    proposals: Slots,
    truth: StaticTruth,
    sizes: Tensor,
    average: Average,
) -> dict[str, Tensor]:
    settings = model.roi_heads.settings
    boxes, valid = proposals.boxes, proposals.valid
    if settings.append_truth:
        boxes, valid = torch.cat((boxes, truth.boxes), dim=1), torch.cat((valid, truth.valid), dim=1)
    found: dict[str, Tensor] = {}
    for stage, weights in enumerate(settings.weights):
        labels, matched = _label(model, stage, boxes, truth)
        logits, deltas = static_predict(model, stage, features, boxes)
        count = average(valid.sum().float()).clamp(min=1)
        costs = F.cross_entropy(logits.float(), labels.flatten(), reduction="none")
        learnt = (valid & (labels < settings.classes)).flatten()
        unit = boxes.new_tensor((0.0, 0.0, 1.0, 1.0))
        source, target = (torch.where(learnt[:, None], one.reshape(-1, 4), unit) for one in (boxes, matched))
        off = (deltas.float() - encode(source, target, weights)).abs().sum(dim=1)
        found[f"loss_cls_stage{stage}"] = (costs * valid.flatten()).sum() / count
        found[f"loss_box_reg_stage{stage}"] = (off * learnt).sum() / count
        if stage + 1 < len(settings.weights):
            moved = decode(boxes.reshape(-1, 4), deltas.detach().float(), weights, settings.largest_growth)
            boxes = _clipped(moved.reshape(boxes.shape), sizes)
            valid = valid & has_area(boxes.reshape(-1, 4)).reshape(valid.shape)
    return found


def _label(model: CenterNet2, stage: int, boxes: Tensor, truth: StaticTruth) -> tuple[Tensor, Tensor]:
    """Return the label (N, B) of each box, and the box (N, B, 4) of the object that it overlaps most."""
    settings = model.roi_heads.settings
    labels, matched = [], []
    for own, objects, classes, valid in zip(boxes, *truth, strict=True):
        shared = overlaps(objects, own).masked_fill(~valid[:, None], -1.0)
        best, which = shared.max(dim=0)
        enough = best >= best.new_tensor(settings.overlaps[stage])
        labels.append(torch.where(enough, classes[which], settings.classes))
        matched.append(objects[which])
    return torch.stack(labels), torch.stack(matched)


def static_predict(model: CenterNet2, stage: int, features: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and deltas of all slots, (N * B, ...)."""
    pooled = static_pool(model, features, boxes)
    return model.roi_heads.predict(stage, pooled, torch.arange(len(pooled), device=pooled.device))


def static_pool(model: CenterNet2, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Pool each box from the level of its size, (N * B, channels, resolution, resolution).

    Every level is asked for every box. A box of another level is handed over without area, for which nothing is added
    up, so that it costs next to nothing; what comes back of it is masked out all the same.
    """
    settings = model.roi_heads.settings
    rows = boxes.reshape(-1, 4)
    image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
    levels = level_of(settings, rows)
    pooled: Tensor | None = None
    for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True), LEAST_LEVEL):
        here = levels == level
        numbered = torch.cat((image[:, None].to(rows.dtype), rows * here[:, None]), dim=1).to(feature.dtype)
        own = roi_align(feature, numbered, settings.resolution, 1 / stride, settings.sampling_ratio, aligned=True)
        own = torch.where(here[:, None, None, None], own, 0.0)
        pooled = own if pooled is None else pooled + own
    assert pooled is not None
    return pooled


def _clipped(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes (N, B, 4) with each corner moved into its image."""
    limits = torch.stack((sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]), dim=1)[:, None]
    return torch.minimum(boxes.clamp(min=0), limits)
