"""Mistakes in the cascade: matching, pooling, coding and losses of boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.centernet2.boxes import encode
from harness.centernet2.cascade import pool
from harness.centernet2.labels import Labelled, Size, Truth, label
from harness.centernet2.losses import Average, divisor, of_one_process
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import OFFICIAL, PORT, TrainingFault, override, with_settings

NextBoxes = Callable[[int, Sequence[Tensor], Tensor, Sequence[Truth], Sequence[Size]], list[Labelled]]


def _unaligned(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def pooled(right: object, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        del right
        return pool(heads.settings, features, boxes, aligned=False)

    override(heads, "pooled", pooled)


def _clipped_to_the_batch(port: TrainingPort) -> None:
    multiple = port.model.settings.input.multiple

    def next_boxes(
        right: NextBoxes,
        stage: int,
        boxes: Sequence[Tensor],
        deltas: Tensor,
        truth: Sequence[Truth],
        sizes: Sequence[Size],
    ) -> list[Labelled]:
        height, width = (-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))
        return right(stage, boxes, deltas, truth, [(height, width)] * len(sizes))

    override(port.model.roi_heads, "next_boxes", next_boxes)


def _empty_kept(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def next_boxes(
        right: NextBoxes,
        stage: int,
        boxes: Sequence[Tensor],
        deltas: Tensor,
        truth: Sequence[Truth],
        sizes: Sequence[Size],
    ) -> list[Labelled]:
        del right
        moved = heads.moved(stage, boxes, deltas.detach(), sizes)
        return [label(heads.settings, stage + 1, own, objects) for own, objects in zip(moved, truth, strict=True)]

    override(heads, "next_boxes", next_boxes)


def _gradient_not_shared(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def predict(right: object, stage: int, pooled: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        del right
        logits, deltas = heads.box_predictor[stage](heads.box_head[stage](pooled))
        place = order.argsort()
        return logits[place], deltas[place]

    override(heads, "predict", predict)


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
        id="truth_not_appended",
        rung="matching",
        description="the objects are not appended to the proposals",
        seen_in="PROPOSAL_APPEND_GT False",
        change=with_settings("roi", append_truth=False),
    ),
    _fault(
        id="match_at_0.5",
        rung="matching",
        description="boxes match from an IoU of 0.5, 0.6 and 0.7 on in place of 0.6, 0.7 and 0.8",
        seen_in="detectron2's ROI_BOX_CASCADE_HEAD.IOUS",
        change=with_settings("roi", overlaps=(0.5, 0.6, 0.7)),
    ),
    _fault(
        id="clip_to_padded_size",
        rung="matching",
        description="boxes between the stages are clipped to the padded batch, not to their image",
        seen_in=PORT,
        change=_clipped_to_the_batch,
    ),
    _fault(
        id="empty_boxes_kept",
        rung="matching",
        description="boxes without area between the stages are kept, and count in the means",
        seen_in=PORT,
        change=_empty_kept,
        shown_on=("other_sizes",),
    ),
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
        id="same_delta_weights",
        rung="matching",
        description="the deltas of all stages are weighted by 10, 10, 5, 5",
        seen_in="detectron2's BBOX_REG_WEIGHTS of one stage",
        change=with_settings("roi", weights=((10.0, 10.0, 5.0, 5.0),) * 3),
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
)
