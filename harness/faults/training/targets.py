"""Mistakes in the targets and the losses of the first stage, and in its proposals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.centernet2.head import FirstStage, flat
from harness.centernet2.labels import Truth
from harness.centernet2.losses import Average, giou_terms, of_one_process
from harness.centernet2.port import TrainingPort
from harness.centernet2.proposals import Proposed, after_nms, before_nms, propose
from harness.centernet2.targets import Shape, Targets, half_diagonal, make_targets, positive_rows
from harness.faults.training.fault import OFFICIAL, PORT, TrainingFault, override, with_settings

PORT_SIZES = ((0, 64), (64, 128), (128, 256), (256, 512), (512, 1e7))
"""Half diagonals by level in the port."""

MakeTargets = Callable[[Sequence[Tensor], Sequence[Truth]], Targets]
FirstLosses = dict[str, Tensor]


def _shapes(features: Sequence[Tensor]) -> list[Shape]:
    return [(int(one.shape[2]), int(one.shape[3])) for one in features]


def _borders_floored(port: TrainingPort) -> None:
    """Floor the size of an object where its level is chosen, and not where the rows of the sides are."""

    def targets(right: MakeTargets, features: Sequence[Tensor], truth: Sequence[Truth]) -> Targets:
        boxes = [own.boxes for own in truth]
        rows = positive_rows(
            port.model.settings.targets, _shapes(features), boxes, lambda sides: half_diagonal(sides).floor()
        )
        return right(features, truth)._replace(positives=rows)

    override(port.model, "targets", targets)


def _borders_of_the_port(port: TrainingPort) -> None:
    with_settings("targets", sizes=PORT_SIZES)(port)
    _borders_floored(port)


def _corners_of_cells(shape: Shape, stride: int, device: torch.device) -> Tensor:
    height, width = shape
    x, y = torch.arange(width, device=device) * stride, torch.arange(height, device=device) * stride
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2).float()


def _grid_without_half_stride(port: TrainingPort) -> None:
    model = port.model

    def targets(right: MakeTargets, features: Sequence[Tensor], truth: Sequence[Truth]) -> Targets:
        del right
        boxes = [own.boxes for own in truth]
        return make_targets(model.settings.targets, _shapes(features), boxes, _corners_of_cells)

    def proposals(right: object, heads: FirstStage) -> list[Proposed]:
        del right
        return propose(model.settings.proposals, heads, training=True, centres=_corners_of_cells)

    override(model, "targets", targets)
    override(model, "proposals", proposals)


def _with_location(location: Callable[[Tensor, Targets, Average], Tensor]) -> Callable[[TrainingPort], None]:
    """Return a change of the loss of the sides, from predicted sides (r, 4) and the targets."""

    def change(port: TrainingPort) -> None:
        def first_losses(
            right: Callable[..., FirstLosses], heads: FirstStage, targets: Targets, average: Average = of_one_process
        ) -> FirstLosses:
            own = location(flat(heads.sides)[targets.rows].float(), targets, average)
            return {**right(heads, targets, average), "loss_centernet_loc": own * port.model.settings.loss.location}

        override(port.model, "first_losses", first_losses)

    return change


def _without_the_one(sides: Tensor, targets: Targets, average: Average) -> Tensor:
    both, union, hull = giou_terms(sides, targets.sides)
    losses = 1 - ((both + 1) / (union + 1e-4) - (hull - union) / hull)
    return losses.sum() / average(losses.new_tensor(len(losses))).clamp(min=1)


def _weighted_by_heatmap(sides: Tensor, targets: Targets, average: Average) -> Tensor:
    both, union, hull = giou_terms(sides, targets.sides)
    losses = 1 - ((both + 1) / (union + 1) - (hull - union) / hull)
    weights = targets.heatmap[targets.rows]
    return (losses * weights).sum() / average(weights.sum()).clamp(min=1)


def _nms_by_level(port: TrainingPort) -> None:
    settings = port.model.settings.proposals

    def proposals(right: object, heads: FirstStage) -> list[Proposed]:
        del right
        found = []
        for levels in before_nms(settings, heads, training=True):
            kept = [after_nms(settings, level, settings.after_nms) for level in levels]
            joined = Proposed(*map(torch.cat, zip(*kept, strict=True)))
            order = joined.scores.argsort(descending=True, stable=True)[: settings.after_nms]
            found.append(Proposed(joined.boxes[order], joined.scores[order]))
        return found

    override(port.model, "proposals", proposals)


def _without_root(port: TrainingPort) -> None:
    def proposals(right: Callable[[FirstStage], list[Proposed]], heads: FirstStage) -> list[Proposed]:
        return [own._replace(scores=own.scores.square()) for own in right(heads)]

    override(port.model, "proposals", proposals)


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"seen_in": OFFICIAL, **values})


TARGET_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="level_borders_of_the_port",
        rung="targets",
        description="the levels do not overlap (half diagonals to 64, 128, 256, 512), and sizes are floored",
        seen_in=PORT,
        change=_borders_of_the_port,
    ),
    _fault(
        id="level_borders_floored",
        rung="targets",
        description="half diagonals are floored before they are compared with the borders of the levels",
        seen_in=PORT,
        change=_borders_floored,
        shown_on=("beyond_80",),
    ),
    _fault(
        id="min_overlap_0.7",
        rung="targets",
        description="the heatmap is drawn for an overlap of 0.7 in place of 0.8",
        seen_in="HM_MIN_OVERLAP of CornerNet's and CenterNet's drawing",
        change=with_settings("targets", least_overlap=0.7),
    ),
    _fault(
        id="grid_without_half_stride",
        rung="targets",
        description="the points of the grid are the corners of the cells, without half a stride",
        seen_in="grids written anew for a chip",
        change=_grid_without_half_stride,
    ),
    _fault(
        id="giou_plus_one_lost",
        rung="first-losses",
        description="the union of the GIoU has lost its + 1",
        seen_in=PORT,
        change=_with_location(_without_the_one),
    ),
    _fault(
        id="norm_reg",
        rung="first-losses",
        description="the rows of the sides are weighted by the heatmap",
        seen_in="NOT_NORM_REG False",
        change=_with_location(_weighted_by_heatmap),
    ),
    _fault(
        id="pos_neg_weight_1",
        rung="first-losses",
        description="the terms of the heatmap are not halved",
        seen_in="POS_WEIGHT and NEG_WEIGHT of the code in place of those of the configuration",
        change=with_settings("loss", positive=1.0, negative=1.0),
    ),
    _fault(
        id="reg_weight_2",
        rung="first-losses",
        description="the loss of the sides has weight 2",
        seen_in="REG_WEIGHT of the code in place of that of the configuration",
        change=with_settings("loss", location=2.0),
    ),
    _fault(
        id="high_fp_not_ignored",
        rung="first-losses",
        description="negatives of a probability above 0.85 count",
        seen_in="IGNORE_HIGH_FP -1",
        change=with_settings("loss", ignore_above=1.0),
        shown_on=("other_sizes",),
    ),
    _fault(
        id="nms_per_level",
        rung="proposals",
        description="NMS of the proposals goes level by level",
        seen_in=PORT,
        change=_nms_by_level,
        shown_on=("duplicated_heads",),
    ),
    _fault(
        id="nms_0.6",
        rung="proposals",
        description="NMS of the proposals is at 0.6 in place of 0.9",
        seen_in="NMS_TH of the one-stage CenterNet",
        change=with_settings("proposals", nms=0.6),
    ),
    _fault(
        id="proposals_of_the_test",
        rung="proposals",
        description="the numbers of proposals are those of the test, 1,000 of a level and 256 in all",
        seen_in="a fixed number of proposals for training and test alike",
        change=with_settings("proposals", before_nms=1000, after_nms=256),
    ),
    _fault(
        id="scores_without_root",
        rung="proposals",
        description="scores of proposals are probabilities, and not their roots",
        seen_in="proposal generators of other detectors",
        change=_without_root,
    ),
)
