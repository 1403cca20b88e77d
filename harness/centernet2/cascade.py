"""Second stage: boxes are pooled, classified and moved three times, each time from where the last has left them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from harness.cards.centernet2 import Cascade, TwoStageNetwork
from harness.centernet2.boxes import area, clipped, decode, encode, has_area, overlaps
from harness.centernet2.losses import Average, divisor, of_one_process
from harness.centernet2.proposals import Proposed
from harness.centernet2.targets import STRIDES

Size = tuple[int, int]
LEAST_LEVEL = 3


class Truth(NamedTuple):
    """Objects of one image.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the network input.
        classes: (n,) int64.
    """

    boxes: Tensor
    classes: Tensor


class Labelled(NamedTuple):
    """Boxes of one image that a stage is given in training.

    Attributes:
        boxes: (n, 4).
        labels: (n,) class of the object, or the number of classes for the background.
        truth: (n, 4) box of the object; without meaning for the background.
    """

    boxes: Tensor
    labels: Tensor
    truth: Tensor


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

    def predict(self, stage: int, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits and deltas of a stage for the boxes of all images, one image after the other."""
        pooled, order = pool(self.settings, features, boxes)
        shared = _Shared.apply(pooled, 1 / len(self.settings.overlaps))
        logits, deltas = self.box_predictor[stage](self.box_head[stage](shared))
        place = order.argsort()  # rows of logits are put in order, and not those of the features, which are large
        return logits[place], deltas[place]

    def losses(
        self,
        features: Sequence[Tensor],
        given: list[Labelled],
        truth: Sequence[Truth],
        sizes: Sequence[Size],
        average: Average = of_one_process,
    ) -> dict[str, Tensor]:
        """Return the losses of all stages by their official names.

        Args:
            features: P3 to P7.
            given: Boxes of the first stage of the cascade, of each image.
            truth: Of each image.
            sizes: (height, width) of each image without its padding.
            average: Applied to the number of boxes, by which the sums are divided.
        """
        found: dict[str, Tensor] = {}
        for stage, weights in enumerate(self.settings.weights):
            boxes = [one.boxes for one in given]
            logits, deltas = self.predict(stage, features, boxes)
            joined = Labelled(*map(torch.cat, zip(*given, strict=True)))
            count = divisor(joined.labels, average)
            rows = (joined.labels < self.settings.classes).nonzero()[:, 0]
            wanted = encode(joined.boxes[rows], joined.truth[rows], weights)
            classes = F.cross_entropy(logits.float(), joined.labels, reduction="sum")
            found[f"loss_cls_stage{stage}"] = classes / count
            found[f"loss_box_reg_stage{stage}"] = (deltas[rows].float() - wanted).abs().sum() / count
            if stage + 1 < len(self.settings.weights):
                moved = self.moved(stage, boxes, deltas.detach(), sizes)
                given = [
                    label(self.settings, stage + 1, own[has_area(own)], objects)
                    for own, objects in zip(moved, truth, strict=True)
                ]
        return found

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
            logits, deltas = self.predict(stage, features, boxes)
            by_stage.append(logits.float().softmax(dim=1))
            boxes = self.moved(stage, boxes, deltas, sizes)
        means = torch.split(torch.stack(by_stage).sum(dim=0) / len(by_stage), [len(one) for one in boxes])
        return [
            (own, (mean * one.scores[:, None]).sqrt()) for own, mean, one in zip(boxes, means, proposals, strict=True)
        ]


def pool(settings: Cascade, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pool the features of each box from the level of its size (RoIAlign, aligned).

    Args:
        settings: Resolution, canonical size.
        features: P3 to P7.
        boxes: Of each image.

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
        pooled.append(roi_align(feature, here, side, 1 / stride, ratio, aligned=True))
    return torch.cat(pooled), torch.cat(order)


def level_of(settings: Cascade, boxes: Tensor) -> Tensor:
    """Return the level, 3 to 7, that a box is pooled from, by the root of its area."""
    size = area(boxes).sqrt() / settings.canonical_size
    level = torch.floor(settings.canonical_level + torch.log2(size + 1e-8))
    return level.clamp(LEAST_LEVEL, LEAST_LEVEL + len(STRIDES) - 1).long()


def label(settings: Cascade, stage: int, boxes: Tensor, truth: Truth) -> Labelled:
    """Give each box the object that it overlaps most, where it does by enough for the stage; else the background."""
    if not len(truth.boxes):
        background = boxes.new_full((len(boxes),), settings.classes, dtype=torch.int64)
        return Labelled(boxes, background, torch.zeros_like(boxes))
    best, which = overlaps(truth.boxes, boxes).max(dim=0)
    # In the precision of the boxes: a limit of 0.7 is a little less in float32, and an equal overlap is enough.
    enough = best >= best.new_tensor(settings.overlaps[stage])
    labels = torch.where(enough, truth.classes[which], settings.classes)
    return Labelled(boxes, labels, truth.boxes[which])


def sample(
    settings: Cascade,
    proposals: Tensor,
    truth: Truth,
    *,
    all_proposals: bool = False,
    generator: torch.Generator | None = None,
) -> Labelled:
    """Choose the boxes of one image that the cascade is trained on, foreground first.

    Args:
        settings: How many, and how many of them foreground at most.
        proposals: (n, 4).
        truth: The image's objects, which are proposals as well where the settings say so.
        all_proposals: Whether to take all, in their order, and draw nothing.
        generator: Source of the draw; PyTorch's own by default.
    """
    boxes = torch.cat((proposals, truth.boxes)) if settings.append_truth else proposals
    found = label(settings, 0, boxes, truth)
    kept = choose(settings, found.labels, all_proposals=all_proposals, generator=generator)
    return Labelled(found.boxes[kept], found.labels[kept], found.truth[kept])


def choose(
    settings: Cascade, labels: Tensor, *, all_proposals: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Return the rows of the boxes that are chosen by their labels, foreground first; see `sample`."""
    foreground = (labels < settings.classes).nonzero()[:, 0]
    background = (labels == settings.classes).nonzero()[:, 0]
    if not all_proposals:
        foreground = _drawn(foreground, int(settings.batch * settings.foreground), generator)
        background = _drawn(background, settings.batch - len(foreground), generator)
    return torch.cat((foreground, background))


def _drawn(rows: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
