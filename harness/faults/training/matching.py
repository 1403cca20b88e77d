"""Mistakes in the boxes of the cascade: which there are, where they are moved, and which object they are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.centernet2.boxes import clipped, overlaps
from harness.centernet2.labels import Labelled, Size, Truth, label
from harness.centernet2.losses import Average, divisor, of_one_process
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import OFFICIAL, PORT, TrainingFault, override, with_settings

NextBoxes = Callable[[int, Sequence[Tensor], Tensor, Sequence[Truth], Sequence[Size]], list[Labelled]]


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


def _low_quality(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def next_boxes(
        right: NextBoxes,
        stage: int,
        boxes: Sequence[Tensor],
        deltas: Tensor,
        truth: Sequence[Truth],
        sizes: Sequence[Size],
    ) -> list[Labelled]:
        found = right(stage, boxes, deltas, truth, sizes)
        return [_with_best(own, objects) for own, objects in zip(found, truth, strict=True)]

    override(heads, "next_boxes", next_boxes)


def _with_best(found: Labelled, truth: Truth) -> Labelled:
    """Give each object the box that overlaps it most as well, however little that is."""
    if not len(truth.boxes) or not len(found.boxes):
        return found
    overlap = overlaps(truth.boxes, found.boxes)
    best = overlap.amax(dim=1, keepdim=True)
    chosen = ((overlap == best) & (best > 0)).any(dim=0)
    return found._replace(labels=torch.where(chosen, truth.classes[overlap.argmax(dim=0)], found.labels))


def _filled_up(port: TrainingPort) -> None:
    roi = port.model.settings.roi

    def first_boxes(right: Callable[..., list[Labelled]], *given: object, **options: object) -> list[Labelled]:
        return [_with_zeros(own, roi.batch - len(own.boxes), roi.classes) for own in right(*given, **options)]

    override(port.model, "first_boxes", first_boxes)


def _with_zeros(found: Labelled, missing: int, background: int) -> Labelled:
    slots = max(0, missing)
    boxes, truth = (F.pad(part, (0, 0, 0, slots)) for part in (found.boxes, found.truth))
    return Labelled(boxes, F.pad(found.labels, (0, slots), value=background), truth)


def _inclusive(port: TrainingPort) -> None:
    heads = port.model.roi_heads

    def stage_losses(
        right: Callable[..., dict[str, Tensor]],
        stage: int,
        given: Sequence[Labelled],
        logits: Tensor,
        deltas: Tensor,
        average: Average = of_one_process,
    ) -> dict[str, Tensor]:
        joined = Labelled(*map(torch.cat, zip(*given, strict=True)))
        rows = (joined.labels < heads.settings.classes).nonzero()[:, 0]
        (size, centre), (target_size, target) = (_sides(part[rows]) for part in (joined.boxes, joined.truth))
        wanted = torch.cat(((target - centre) / size, torch.log(target_size / size)), dim=1)
        wanted = wanted * wanted.new_tensor(heads.settings.weights[stage])
        loss = (deltas[rows].float() - wanted).abs().sum() / divisor(joined.labels, average)
        return {**right(stage, given, logits, deltas, average), f"loss_box_reg_stage{stage}": loss}

    def moved(
        right: object, stage: int, boxes: Sequence[Tensor], deltas: Tensor, sizes: Sequence[Size]
    ) -> list[Tensor]:
        del right
        found, most = [], math.log(heads.settings.largest_growth)
        parts = deltas.float() / deltas.new_tensor(heads.settings.weights[stage]).float()
        for own, part, limits in zip(boxes, torch.split(parts, [len(one) for one in boxes]), sizes, strict=True):
            size, centre = _sides(own)
            half = (torch.exp(part[:, 2:].clamp(max=most)) * size - 1) / 2
            middle = part[:, :2] * size + centre
            found.append(clipped(torch.cat((middle - half, middle + half), dim=1), *limits))
        return found

    override(heads, "stage_losses", stage_losses)
    override(heads, "moved", moved)


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height as if the last pixel were within, and the centre."""
    return boxes[:, 2:] - boxes[:, :2] + 1, (boxes[:, :2] + boxes[:, 2:]) / 2


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"rung": "matching", "seen_in": OFFICIAL, **values})


MATCHING_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="truth_not_appended",
        description="the objects are not appended to the proposals",
        seen_in="PROPOSAL_APPEND_GT False",
        change=with_settings("roi", append_truth=False),
    ),
    _fault(
        id="match_at_0.5",
        description="boxes match from an IoU of 0.5, 0.6 and 0.7 on in place of 0.6, 0.7 and 0.8",
        seen_in="detectron2's ROI_BOX_CASCADE_HEAD.IOUS",
        change=with_settings("roi", overlaps=(0.5, 0.6, 0.7)),
    ),
    _fault(
        id="clip_to_padded_size",
        description="boxes between the stages are clipped to the padded batch, not to their image",
        seen_in=PORT,
        change=_clipped_to_the_batch,
    ),
    _fault(
        id="empty_boxes_kept",
        description="boxes without area between the stages are kept, and count in the means",
        seen_in=PORT,
        change=_empty_kept,
        shown_on=("other_sizes",),
    ),
    _fault(
        id="same_delta_weights",
        description="the deltas of all stages are weighted by 10, 10, 5, 5",
        seen_in="detectron2's BBOX_REG_WEIGHTS of one stage",
        change=with_settings("roi", weights=((10.0, 10.0, 5.0, 5.0),) * 3),
    ),
    _fault(
        id="low_quality_matches",
        description="each object also takes the box that overlaps it most, however little",
        seen_in="matchers of an RPN",
        change=_low_quality,
    ),
    _fault(
        id="empty_slots_are_background",
        description="the boxes of an image are filled up to 512 with zeros, which count as background",
        seen_in="sampled boxes in static shapes without a mask",
        change=_filled_up,
    ),
    _fault(
        id="box_coding_inclusive",
        description="boxes are coded and decoded by sides of x2 - x1 + 1",
        seen_in="BoundingBoxEncode and BoundingBoxDecode of chips, and old detectors",
        change=_inclusive,
    ),
)
