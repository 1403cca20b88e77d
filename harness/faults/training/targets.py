"""Mistakes in the targets and the losses of the first stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.centernet2.head import FirstStage, flat
from harness.centernet2.labels import Truth
from harness.centernet2.losses import Average, giou_terms, of_one_process
from harness.centernet2.port import TrainingPort
from harness.centernet2.proposals import Proposed, propose
from harness.centernet2.targets import STRIDES, Shape, Targets, half_diagonal, make_targets, positive_rows
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


def _cells_rounded(port: TrainingPort) -> None:
    """Round the place of a centre in cells where it should be floored; beyond the last cell, take that."""
    ends_of = port.model.settings.targets.sizes

    def targets(right: MakeTargets, features: Sequence[Tensor], truth: Sequence[Truth]) -> Targets:
        found, base = list[Tensor](), 0
        for (height, width), stride, ends in zip(_shapes(features), STRIDES, ends_of, strict=True):
            for own in truth:
                cells = ((own.boxes[:, :2] + own.boxes[:, 2:]) / 2 / stride).round().long()
                cells = torch.minimum(cells, cells.new_tensor((width - 1, height - 1)))
                size = half_diagonal(own.boxes[:, 2:] - own.boxes[:, :2])
                within = (size >= ends[0]) & (size <= ends[1])
                found.append((base + cells[:, 1] * width + cells[:, 0])[within])
                base += height * width
        return right(features, truth)._replace(positives=torch.cat(found))

    override(port.model, "targets", targets)


def _last_object_wins(port: TrainingPort) -> None:
    settings = port.model.settings.targets

    def targets(right: MakeTargets, features: Sequence[Tensor], truth: Sequence[Truth]) -> Targets:
        found = right(features, truth)
        heatmap = torch.zeros_like(found.heatmap)
        for place in range(max(len(own.boxes) for own in truth)):
            boxes = [own.boxes[place : place + 1] for own in truth]
            drawn = make_targets(settings, _shapes(features), boxes).heatmap
            heatmap = torch.where(drawn > 0, drawn, heatmap)
        return found._replace(heatmap=heatmap)

    override(port.model, "targets", targets)


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


def _factors_detached(port: TrainingPort) -> None:
    settings = port.model.settings.loss

    def first_losses(
        right: Callable[..., FirstLosses], heads: FirstStage, targets: Targets, average: Average = of_one_process
    ) -> FirstLosses:
        probability = torch.sigmoid(flat(heads.logits)[:, 0].float()).clamp(settings.clamp, 1 - settings.clamp)
        factor, own = probability.detach(), targets.positives
        positive = torch.log(probability[own]) * (1 - factor[own]) ** settings.gamma
        negative = torch.log(1 - probability) * factor**settings.gamma * (1 - targets.heatmap) ** settings.beta
        negative = negative * (factor < settings.ignore_above)
        count = average(probability.new_tensor(len(own))).clamp(min=1)
        return {
            **right(heads, targets, average),
            "loss_centernet_agn_pos": settings.positive * -settings.alpha * positive.sum() / count,
            "loss_centernet_agn_neg": settings.negative * -(1 - settings.alpha) * negative.sum() / count,
        }

    override(port.model, "first_losses", first_losses)


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
        id="positive_cells_rounded",
        rung="targets",
        description="the cell of a centre is rounded, where it should be floored",
        seen_in="casts to integers that round to nearest",
        change=_cells_rounded,
    ),
    _fault(
        id="heatmap_last_object_wins",
        rung="targets",
        description="of several objects a cell of the heatmap has the value of the last, not the largest",
        seen_in="loops over objects that assign and take no maximum",
        change=_last_object_wins,
    ),
    _fault(
        id="focal_factor_detached",
        rung="first-losses",
        description="the factors of the focal loss, (1 - p)^g and p^g, have no gradient",
        seen_in="focal losses written as a weighted cross entropy",
        change=_factors_detached,
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
)
