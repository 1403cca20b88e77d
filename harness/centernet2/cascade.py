"""Second stage: boxes are pooled, classified and moved three times, each time from where the last has left them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from harness.cards.centernet2 import Cascade, TwoStageNetwork
from harness.centernet2.boxes import area, clipped, decode, encode, has_area
from harness.centernet2.labels import Labelled, Size, Truth, label
from harness.centernet2.losses import Average, divisor, of_one_process
from harness.centernet2.proposals import Proposed
from harness.centernet2.targets import STRIDES

LEAST_LEVEL = 3


class StageStep(NamedTuple):
    """What one stage of the cascade takes and gives in a training step, one image after the other.

    Attributes:
        given: Boxes of each image.
        pooled: (n, channels, resolution, resolution), level by level.
        order: (n,) int64, which box each row of `pooled` is of.
        logits: (n, classes + 1), the background last.
        deltas: (n, 4) for whatever class.
    """

    given: list[Labelled]
    pooled: Tensor
    order: Tensor
    logits: Tensor
    deltas: Tensor


class _Shared(torch.autograd.Function):
    """Features whose gradient is a share of what comes back: the losses of the stages are summed, not averaged."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, share: float) -> Tensor:  # noqa: ANN401 - PyTorch has no type for it
        ctx.share = share
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradients[0] * ctx.share, None


class BoxHead(nn.Module):
    """Two layers over the pooled features of a box."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (n, outputs)."""
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Class and move of a box."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(inputs, classes + 1), nn.Linear(inputs, 4)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, classes + 1), the background last, and deltas (n, 4) for whatever class."""
        return self.cls_score(features), self.bbox_pred(features)


class CascadeHeads(nn.Module):
    """The stages of boxes.

    Args:
        network: Channels.
        settings: Pooling, sampling, overlaps.
    """

    def __init__(self, network: TwoStageNetwork, settings: Cascade) -> None:
        super().__init__()
        self.settings = settings
        inputs = network.fpn * settings.resolution**2
        stages = range(len(settings.overlaps))
        self.box_head = nn.ModuleList(BoxHead(inputs, network.fc) for _ in stages)
        self.box_predictor = nn.ModuleList(BoxPredictor(network.fc, settings.classes) for _ in stages)

    def pooled(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the pooled features of the boxes of all images, and which box each row is of; see `pool`."""
        return pool(self.settings, features, boxes)

    def predict(self, stage: int, pooled: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and deltas of a stage for the boxes of all images, one image after the other."""
        shared = _Shared.apply(pooled, 1 / len(self.settings.overlaps))
        logits, deltas = self.box_predictor[stage](self.box_head[stage](shared))
        place = order.argsort()  # rows of logits are put in order, and not those of the features, which are large
        return logits[place], deltas[place]

    def stage_losses(
        self, stage: int, given: Sequence[Labelled], logits: Tensor, deltas: Tensor, average: Average = of_one_process
    ) -> dict[str, Tensor]:
        """Return the two losses of a stage by their official names.

        Args:
            stage: Its number.
            given: Its boxes, of each image.
            logits: Of the boxes of all images.
            deltas: Likewise.
            average: Applied to the number of boxes, by which the sums are divided.
        """
        joined = Labelled(*map(torch.cat, zip(*given, strict=True)))
        count = divisor(joined.labels, average)
        rows = (joined.labels < self.settings.classes).nonzero()[:, 0]
        wanted = encode(joined.boxes[rows], joined.truth[rows], self.settings.weights[stage])
        classes = F.cross_entropy(logits.float(), joined.labels, reduction="sum")
        return {
            f"loss_cls_stage{stage}": classes / count,
            f"loss_box_reg_stage{stage}": (deltas[rows].float() - wanted).abs().sum() / count,
        }

    def next_boxes(
        self, stage: int, boxes: Sequence[Tensor], deltas: Tensor, truth: Sequence[Truth], sizes: Sequence[Size]
    ) -> list[Labelled]:
        """Return the boxes of each image that the stage after this one is trained on."""
        moved = self.moved(stage, boxes, deltas.detach(), sizes)
        return [
            label(self.settings, stage + 1, own[has_area(own)], objects)
            for own, objects in zip(moved, truth, strict=True)
        ]

    def step(
        self,
        features: Sequence[Tensor],
        given: list[Labelled],
        truth: Sequence[Truth],
        sizes: Sequence[Size],
        average: Average = of_one_process,
        forced: Sequence[list[Labelled]] | None = None,
    ) -> tuple[list[StageStep], dict[str, Tensor]]:
        """Run all stages in training, and return what they took and gave, and their losses.

        Args:
            features: P3 to P7.
            given: Boxes of the first stage of the cascade, of each image.
            truth: Of each image.
            sizes: (height, width) of each image without its padding.
            average: Applied to the number of boxes, by which the sums are divided.
            forced: Boxes of every stage, where they are not to be those that the stage before has left.
        """
        stages: list[StageStep] = []
        losses: dict[str, Tensor] = {}
        for stage in range(len(self.settings.overlaps)):
            given = given if forced is None else forced[stage]
            boxes = [one.boxes for one in given]
            pooled, order = self.pooled(features, boxes)
            logits, deltas = self.predict(stage, pooled, order)
            stages.append(StageStep(given, pooled, order, logits, deltas))
            losses |= self.stage_losses(stage, given, logits, deltas, average)
            if forced is None and stage + 1 < len(self.settings.overlaps):
                given = self.next_boxes(stage, boxes, deltas, truth, sizes)
        return stages, losses

    def moved(self, stage: int, boxes: Sequence[Tensor], deltas: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Return the boxes of each image where the deltas of a stage lead, within the image."""
        weights, growth = self.settings.weights[stage], self.settings.largest_growth
        parts = torch.split(deltas.float(), [len(one) for one in boxes])
        return [
            clipped(decode(own, part, weights, growth), *size)
            for own, part, size in zip(boxes, parts, sizes, strict=True)
        ]

    def fused(
        self, features: Sequence[Tensor], proposals: Sequence[Proposed], sizes: Sequence[Size]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the last boxes (n, 4) of each image, and their scores (n, classes + 1).

        A score is the root of the mean probability over the stages times the score of the proposal.
        """
        boxes, by_stage = [one.boxes for one in proposals], list[Tensor]()
        for stage in range(len(self.settings.overlaps)):
            logits, deltas = self.predict(stage, *self.pooled(features, boxes))
            by_stage.append(logits.float().softmax(dim=1))
            boxes = self.moved(stage, boxes, deltas, sizes)
        means = torch.split(torch.stack(by_stage).sum(dim=0) / len(by_stage), [len(one) for one in boxes])
        return [
            (own, (mean * one.scores[:, None]).sqrt()) for own, mean, one in zip(boxes, means, proposals, strict=True)
        ]


def pool(
    settings: Cascade, features: Sequence[Tensor], boxes: Sequence[Tensor], *, aligned: bool = True
) -> tuple[Tensor, Tensor]:
    """Pool the features of each box from the level of its size (RoIAlign).

    Args:
        settings: Resolution, canonical size.
        features: P3 to P7.
        boxes: Of each image.
        aligned: Whether samples lie half a pixel off, as they should.

    Returns:
        (n, channels, resolution, resolution), level by level, and (n,) which box each row is of: its number among
        those of all images, one image after the other.
    """
    rows = torch.cat(list(boxes))
    image = torch.repeat_interleave(torch.tensor([len(one) for one in boxes], device=rows.device))
    numbered = torch.cat((image[:, None].to(rows.dtype), rows), dim=1)
    levels = level_of(settings, rows)
    side, ratio = settings.resolution, settings.sampling_ratio
    pooled, order = [], []
    for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True), LEAST_LEVEL):
        order.append((levels == level).nonzero()[:, 0])
        here = numbered[order[-1]].to(feature.dtype)
        pooled.append(roi_align(feature, here, side, 1 / stride, ratio, aligned=aligned))
    return torch.cat(pooled), torch.cat(order)


def level_of(settings: Cascade, boxes: Tensor) -> Tensor:
    """Return the level, 3 to 7, that a box is pooled from, by the root of its area."""
    size = area(boxes).sqrt() / settings.canonical_size
    level = torch.floor(settings.canonical_level + torch.log2(size + 1e-8))
    return level.clamp(LEAST_LEVEL, LEAST_LEVEL + len(STRIDES) - 1).long()
