"""Mistakes in the cascade: pooling, predictions and losses of boxes, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.centernet2.boxes import encode
from harness.centernet2.cascade import pool
from harness.centernet2.labels import Labelled
from harness.centernet2.losses import Average, divisor, of_one_process
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import OFFICIAL, PORT, TrainingFault, override, with_settings


def _unaligned(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def pooled(right: object, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        del right
        return pool(heads.settings, features, boxes, aligned=False)

    override(heads, "pooled", pooled)


def _gradient_not_shared(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def predict(right: object, stage: int, pooled: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        del right
        logits, deltas = heads.box_predictor[stage](heads.box_head[stage](pooled))
        place = order.argsort()
        return logits[place], deltas[place]

    override(heads, "predict", predict)


def _shared_after_the_head(port: TrainingPort) -> None:
    heads = port.model.roi_heads
    share = 1 / len(heads.settings.overlaps)

    def predict(right: object, stage: int, pooled: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        del right
        hidden = heads.box_head[stage](pooled)
        logits, deltas = heads.box_predictor[stage](hidden * share + hidden.detach() * (1 - share))
        place = order.argsort()
        return logits[place], deltas[place]

    override(heads, "predict", predict)


def _by_image(port: TrainingPort) -> None:
    def stage_losses(
        right: Callable[..., dict[str, Tensor]],
        stage: int,
        given: Sequence[Labelled],
        logits: Tensor,
        deltas: Tensor,
        average: Average = of_one_process,
    ) -> dict[str, Tensor]:
        counts = [len(own.boxes) for own in given]
        parts = [
            right(stage, [own], *both, average)
            for own, *both in zip(given, torch.split(logits, counts), torch.split(deltas, counts), strict=True)
        ]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    override(port.model.roi_heads, "stage_losses", stage_losses)


def _smooth_l1(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def stage_losses(
        right: Callable[..., dict[str, Tensor]],
        stage: int,
        given: Sequence[Labelled],
        logits: Tensor,
        deltas: Tensor,
        average: Average = of_one_process,
    ) -> dict[str, Tensor]:
        found = right(stage, given, logits, deltas, average)
        joined = Labelled(*map(torch.cat, zip(*given, strict=True)))
        rows = (joined.labels < heads.settings.classes).nonzero()[:, 0]
        wanted = encode(joined.boxes[rows], joined.truth[rows], heads.settings.weights[stage])
        smooth = F.smooth_l1_loss(deltas[rows].float(), wanted, reduction="sum", beta=1.0)
        return {**found, f"loss_box_reg_stage{stage}": smooth / divisor(joined.labels, average)}

    override(heads, "stage_losses", stage_losses)


def _detached(port: TrainingPort) -> None:
    def pooled(
        right: Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, Tensor]],
        features: Sequence[Tensor],
        boxes: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        return right([feature.detach() for feature in features], boxes)

    override(port.model.roi_heads, "pooled", pooled)


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"seen_in": OFFICIAL, **values})


CASCADE_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="roialign_unaligned",
        rung="pooled",
        description="RoIAlign lacks the shift by half a pixel",
        seen_in=f"{PORT}: npu_roi_align with roi_end_mode 0; POOLER_TYPE ROIAlign",
        change=_unaligned,
    ),
    _fault(
        id="sampling_ratio_2",
        rung="pooled",
        description="RoIAlign takes 2 x 2 samples a bin in place of as many as its size asks for",
        seen_in="POOLER_SAMPLING_RATIO 2, torchvision's and other chips' default",
        change=with_settings("roi", sampling_ratio=2),
    ),
    _fault(
        id="gradient_scale_lost",
        rung="predictions",
        description="the gradient of the pooled features is not divided by the number of stages",
        seen_in="cascades without detectron2's _ScaleGradient",
        change=_gradient_not_shared,
    ),
    _fault(
        id="smooth_l1_beta_1",
        rung="stage-losses",
        description="the loss of the deltas is smooth L1 with beta 1 in place of L1",
        seen_in="torch.nn.SmoothL1Loss by default",
        change=_smooth_l1,
    ),
    _fault(
        id="features_detached",
        rung="gradients",
        description="the gradients of the cascade do not reach the backbone",
        seen_in="RoIAlign moved to another device, or without a backward pass",
        change=_detached,
    ),
    _fault(
        id="gradient_scale_after_head",
        rung="gradients",
        description="the gradient is divided by the number of stages behind the box head, not before it",
        seen_in="cascades whose box head is one fused operator",
        change=_shared_after_the_head,
    ),
    _fault(
        id="losses_by_image",
        rung="stage-losses",
        description="losses of the cascade are means over each image, and then over the images",
        seen_in="loops over images for fixed shapes",
        change=_by_image,
    ),
)
