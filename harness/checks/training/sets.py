"""Boxes of a training step compared as sets, and the decisions about them that are too close to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from harness.cards.centernet2 import TwoStageSettings
from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.cases import Case
from harness.checks.comparison import Comparison
from harness.report.records import Stage

Values = dict[str, Tensor]
AT_A_TIME = 512
"""Rows that are compared with all others at a time, to bound the memory."""


class Judged(NamedTuple):
    """What was compared, and the decisions that were taken from the reference for being too close to call."""

    comparisons: list[Comparison]
    close: list[str]


def unmatched(rows: Tensor, others: Tensor, allowed: Tensor) -> Tensor:
    """Tell which rows (n, k) have no equal among others (m, k), to within what is allowed (k,) in each column."""
    alone = torch.ones(len(rows), dtype=torch.bool)
    for start in range(0, len(rows), AT_A_TIME):
        some = rows[start : start + AT_A_TIME]
        equal = torch.ones(len(some), len(others), dtype=torch.bool)
        for column in range(rows.shape[1]):
            equal &= (some[:, None, column] - others[:, column]).abs() <= allowed[column]
        alone[start : start + AT_A_TIME] = ~equal.any(dim=1)
    return alone


def compare_proposals(label: str, settings: TwoStageSettings, got: Values, expected: Values, images: int) -> Judged:
    """Compare the proposals of each image, in training, made of the same heads."""
    found = Judged([], [])
    for image in range(images):
        name = f"proposals image {image}"
        rows, others = (torch.cat((v[f"{name} boxes"], v[f"{name} scores"][:, None]), dim=1) for v in (got, expected))
        extra, missing = _alone(rows, others)
        odd = torch.cat((rows[extra], others[missing]))
        close = _close_proposals(settings, odd, torch.cat((rows, others)), len(others))
        _note(found, f"{label}: {name}", odd, close, int(extra.sum()), len(others), "IoU, probability or rank")
    return found


def compare_matching(label: str, settings: TwoStageSettings, got: Values, expected: Values, case: Case) -> Judged:
    """Compare the boxes of each stage of the cascade and the objects that they are given."""
    found = Judged([], [])
    for stage, limit in enumerate(settings.roi.overlaps):
        for image, truth in enumerate(case.boxes):
            name = f"stage {stage} image {image}"
            rows, others = (_labelled(v, name, settings.roi.classes) for v in (got, expected))
            extra, missing = _alone(rows, others)
            odd = torch.cat((rows[extra], others[missing]))
            close = _close_matches(odd[:, :4], torch.from_numpy(truth), limit)
            _note(found, f"{label}: {name}", odd, close, int(extra.sum()), len(others), "IoU or side")
    return found


def _labelled(values: Values, name: str, background: int) -> Tensor:
    labels = values[f"{name} labels"].float()
    truth = values[f"{name} truth"] * (labels < background)[:, None]  # that of the background has no meaning
    return torch.cat((values[f"{name} boxes"], labels[:, None], truth), dim=1)


def _alone(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Tell which rows are on one side alone; NaN equals nothing."""
    share = load_training_tolerances().exact.share
    allowed = share * torch.cat((others, torch.ones(1, others.shape[1]))).abs().amax(dim=0)
    return unmatched(rows, others, allowed), unmatched(others, rows, allowed)


def _near(values: Tensor, limit: float) -> Tensor:
    return (values - limit).abs() <= load_training_tolerances().decisions.margin * limit


def _close_proposals(settings: TwoStageSettings, odd: Tensor, every: Tensor, most: int) -> Tensor:
    """Tell which odd boxes hang on a decision that rounding can turn, by themselves or by another one that does."""
    if not len(odd):
        return torch.zeros(0, dtype=torch.bool)
    chosen, scores = settings.proposals, odd[:, 4]
    close = _near(scores.square(), chosen.least_probability)
    close |= _near(box_iou(odd[:, :4], every[:, :4]), chosen.nms).any(dim=1)
    if most >= chosen.after_nms:
        limit = float(every[:, 4].sort(descending=True).values[chosen.after_nms - 1])
        close |= _near(scores, limit)
    overlaps = box_iou(odd[:, :4], odd[:, :4]) > chosen.nms * (1 - load_training_tolerances().decisions.margin)
    for _ in range(len(odd)):
        further = close | overlaps[:, close].any(dim=1)
        if bool((further == close).all()):
            break
        close = further
    return close


def _close_matches(odd: Tensor, truth: Tensor, limit: float) -> Tensor:
    """Tell which boxes hang on an overlap, on which of two equal ones is larger, or on whether they have any area."""
    if not len(odd):
        return torch.zeros(0, dtype=torch.bool)
    sides = (odd[:, 2:] - odd[:, :2]).amin(dim=1)
    scale = float(odd.abs().max().clamp(min=1))
    close = (sides > 0) & (sides <= load_training_tolerances().decisions.margin * scale)
    if len(truth):
        overlaps = box_iou(odd, truth)
        close |= _near(overlaps, limit).any(dim=1)
        if len(truth) > 1:
            best = overlaps.topk(2, dim=1).values
            close |= (best[:, 0] >= limit) & _near(best[:, 1] / best[:, 0].clamp(min=1e-12), 1.0)
    return close


def _note(found: Judged, what: str, odd: Tensor, close: Tensor, extra: int, count: int, kind: str) -> None:
    wrong = odd[~close]
    problem = None
    if len(wrong):
        sides = (~close[:extra]).sum(), (~close[extra:]).sum()
        example = ", ".join(f"{value:.6g}" for value in wrong[0].tolist())
        problem = f"{sides[0]} boxes are too many and {sides[1]} are missing, of {count}; the first: {example}"
    found.comparisons.append(Comparison(what, float(len(wrong)), 0, max(count, 1), problem))
    if bool(close.any()):
        found.close.append(
            f"{what}: {int(close.sum())} boxes whose {kind} is nearer to its limit than rounding: as the reference"
        )


def with_remarks(stage: Stage, remarks: Sequence[str]) -> Stage:
    """Add remarks to the record of a stage, also where it passes: nothing that was not judged stays untold."""
    if not remarks:
        return stage
    told = "; ".join(remarks)
    return stage.model_copy(update={"detail": told if stage.detail is None else f"{stage.detail}\n{told}"})
