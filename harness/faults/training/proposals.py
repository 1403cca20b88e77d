"""Mistakes in the proposals of the first stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision.ops import nms

from harness.centernet2.boxes import clipped, has_area
from harness.centernet2.head import FirstStage
from harness.centernet2.port import TrainingPort
from harness.centernet2.proposals import Proposed, after_nms, before_nms
from harness.centernet2.targets import STRIDES
from harness.faults.training.fault import PORT, TrainingFault, override, with_settings


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


def _nms_inclusive(port: TrainingPort) -> None:
    settings = port.model.settings.proposals

    def proposals(right: object, heads: FirstStage) -> list[Proposed]:
        del right
        found = []
        for levels in before_nms(settings, heads, training=True):
            given = Proposed(*map(torch.cat, zip(*levels, strict=True)))
            grown = torch.cat((given.boxes[:, :2], given.boxes[:, 2:] + 1), dim=1)
            kept = nms(grown, given.scores, settings.nms)[: settings.after_nms]
            found.append(Proposed(given.boxes[kept], given.scores[kept]))
        return found

    override(port.model, "proposals", proposals)


def _clipped(port: TrainingPort) -> None:
    def proposals(right: Callable[[FirstStage], list[Proposed]], heads: FirstStage) -> list[Proposed]:
        height, width = (int(side) * STRIDES[0] for side in heads.logits[0].shape[2:])
        found = [own._replace(boxes=clipped(own.boxes, height, width)) for own in right(heads)]
        return [Proposed(*(part[has_area(own.boxes)] for part in own)) for own in found]

    override(port.model, "proposals", proposals)


def _without_root(port: TrainingPort) -> None:
    def proposals(right: Callable[[FirstStage], list[Proposed]], heads: FirstStage) -> list[Proposed]:
        return [own._replace(scores=own.scores.square()) for own in right(heads)]

    override(port.model, "proposals", proposals)


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"rung": "proposals", **values})


PROPOSAL_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="nms_per_level",
        description="NMS of the proposals goes level by level",
        seen_in=PORT,
        change=_nms_by_level,
        shown_on=("duplicated_heads",),
    ),
    _fault(
        id="nms_0.6",
        description="NMS of the proposals is at 0.6 in place of 0.9",
        seen_in="NMS_TH of the one-stage CenterNet",
        change=with_settings("proposals", nms=0.6),
    ),
    _fault(
        id="proposals_of_the_test",
        description="the numbers of proposals are those of the test, 1,000 of a level and 256 in all",
        seen_in="a fixed number of proposals for training and test alike",
        change=with_settings("proposals", before_nms=1000, after_nms=256),
    ),
    _fault(
        id="scores_without_root",
        description="scores of proposals are probabilities, and not their roots",
        seen_in="proposal generators of other detectors",
        change=_without_root,
    ),
    _fault(
        id="nms_inclusive",
        description="NMS of the proposals counts width as x2 - x1 + 1",
        seen_in="NMS of chips, and of old detectors",
        change=_nms_inclusive,
    ),
    _fault(
        id="proposals_clipped",
        description="proposals are clipped to the batch before the cascade",
        seen_in="proposal operators of an RPN",
        change=_clipped,
    ),
)
