"""CenterNet2 without any shape that hangs on the data, as an NPU or a graph compiler needs it, and exact.

Every number of objects, proposals, boxes and detections is fixed; what is not used is masked out of sums. The layers
and their parameters are those of `CenterNet2`. NMS is an operator of the host (`harness.centernet2.static_nms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.cards.centernet2 import TwoStageLoss
from harness.cards.recipe import StaticShapes
from harness.centernet2.head import FirstStage, flat
from harness.centernet2.labels import Truth
from harness.centernet2.losses import Average, giou_terms, of_one_process
from harness.centernet2.model import CenterNet2
from harness.centernet2.slots import EMPTY, StaticTruth, in_slots
from harness.centernet2.static_cascade import in_images, static_fused, static_stage_losses
from harness.centernet2.static_nms import nms_slots
from harness.centernet2.static_proposals import static_propose
from harness.centernet2.static_targets import StaticTargets, static_targets
from harness.types import UInt8


class StaticInputs(NamedTuple):
    """Inputs of a static step, all on one device.

    Attributes:
        batch: (N, 3, H, W), normalised and padded.
        sizes: (N, 2) float32, height and width of each image without its padding.
        truth: Objects of the batch.
    """

    batch: Tensor
    sizes: Tensor
    truth: StaticTruth


class StaticStep(NamedTuple):
    """What a static step gives.

    Attributes:
        losses: By their official names.
        dropped: (N,) int64, proposals of each image for which there was no slot.
    """

    losses: dict[str, Tensor]
    dropped: Tensor


class StaticDetections(NamedTuple):
    """Detections of a batch in a fixed number of slots, the surest first.

    Attributes:
        boxes: (N, slots, 4) x1, y1, x2, y2 in pixels of the network input.
        scores: (N, slots), 0 where a slot is empty.
        classes: (N, slots) int64, `EMPTY` where a slot is empty.
        dropped: (N,) int64, proposals of each image for which there was no slot.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    dropped: Tensor


def static_inputs(
    model: CenterNet2, images: Sequence[UInt8], truth: Sequence[Truth], caps: StaticShapes
) -> StaticInputs:
    """Make the inputs of a static step of images (3, h, w) BGR and their objects.

    Raises:
        HarnessError: An image has more objects than slots.
    """
    batch, sizes = model.batch(images)
    limits = torch.tensor(sizes, dtype=torch.float32, device=batch.device)
    return StaticInputs(batch, limits, in_slots(truth, caps, batch.device))


def static_step(
    model: CenterNet2,
    inputs: StaticInputs,
    caps: StaticShapes,
    average: Average = of_one_process,
    keys: Tensor | None = None,
) -> StaticStep:
    """Compute the nine losses of a batch.

    Args:
        model: Whose layers are run.
        inputs: Images and objects.
        caps: Numbers of slots.
        average: From a count of this process to its mean over all.
        keys: (N, `boxes_to_draw_from`) random numbers from 0 to 1, by which the boxes that the cascade is trained on
            are drawn; None for all.
    """
    batch, sizes, truth = inputs
    features = model.features(batch)
    heads = model.heads(features)
    shapes = [(int(one.shape[2]), int(one.shape[3])) for one in features]
    targets = static_targets(model.settings.targets, shapes, truth.boxes, truth.valid)
    first = _first_losses(model.settings.loss, heads, targets, average)
    proposals, dropped = static_propose(model.settings.proposals, heads, caps.proposals, training=True)
    losses = static_stage_losses(model.roi_heads, features, proposals, truth, sizes, average, keys)
    return StaticStep({**losses, **first}, dropped)


def boxes_to_draw_from(model: CenterNet2, caps: StaticShapes) -> int:
    """Return the most boxes of an image among which the cascade's are drawn, empty slots included."""
    return caps.proposals + (caps.truth if model.roi_heads.settings.append_truth else 0)


@torch.no_grad()
def static_detect(model: CenterNet2, batch: Tensor, sizes: Tensor, caps: StaticShapes) -> StaticDetections:
    """Detect what is in a batch; see `StaticInputs` for the arguments."""
    settings = model.settings.detections
    features = model.features(batch)
    heads = model.heads(features)
    proposals, dropped = static_propose(model.settings.proposals, heads, caps.proposals_test, training=False)
    boxes, scores = static_fused(model.roi_heads, features, proposals, sizes)
    finite = boxes.isfinite().all(dim=2) & scores.isfinite().all(dim=2) & proposals.valid
    boxes = in_images(boxes, sizes)
    count = scores.shape[2] - 1
    sure = (scores[..., :-1] > settings.score_threshold) & finite[..., None]
    classes = torch.arange(count, device=batch.device).repeat(boxes.shape[1])
    found: list[tuple[Tensor, ...]] = []
    for own, score, there in zip(boxes, scores[..., :-1].flatten(1), sure.flatten(1), strict=True):
        each = own.repeat_interleave(count, dim=0)
        rows, used, _ = nms_slots(each, score, there, settings.nms, len(each), settings.top_k, classes)
        kept = torch.where(used[:, None], each[rows], 0.0), torch.where(used, score[rows], 0.0)
        found.append((*kept, torch.where(used, classes[rows], EMPTY)))
    detected, their_scores, their_classes = (torch.stack(parts) for parts in zip(*found, strict=True))
    return StaticDetections(detected, their_scores, their_classes, dropped)


def _first_losses(
    settings: TwoStageLoss, heads: FirstStage, targets: StaticTargets, average: Average
) -> dict[str, Tensor]:
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
