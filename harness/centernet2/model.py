"""CenterNet2: a proposal network and a cascade of box heads, with the official names of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import batched_nms

from harness.cards.centernet2 import TwoStageDetections, TwoStageSettings, load_two_stage_settings
from harness.centernet2.backbone import Pyramid
from harness.centernet2.boxes import clipped, has_area
from harness.centernet2.cascade import CascadeHeads, StageStep
from harness.centernet2.head import CenterNetHead, FirstStage
from harness.centernet2.labels import Labelled, Size, Truth, sample
from harness.centernet2.losses import Average, first_stage_losses, of_one_process
from harness.centernet2.proposals import Proposed, propose
from harness.centernet2.targets import Targets, make_targets
from harness.types import Detections, Float32, UInt8


class ProposalGenerator(nn.Module):
    """The first stage, under its official name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.centernet_head = CenterNetHead(channels)


class Step(NamedTuple):
    """All that a training step computes before its gradients, in the order in which it does.

    Attributes:
        batch: (N, 3, H, W), normalised and padded.
        sizes: (height, width) of each image without its padding.
        features: P3 to P7.
        heads: Of the first stage.
        targets: Its truth.
        proposals: Of each image.
        stages: Of the cascade.
        losses: By their official names.
    """

    batch: Tensor
    sizes: list[Size]
    features: list[Tensor]
    heads: FirstStage
    targets: Targets
    proposals: list[Proposed]
    stages: list[StageStep]
    losses: dict[str, Tensor]


class CenterNet2(nn.Module):
    """The two-stage detector.

    Args:
        settings: All numbers of the model.
        name: Of the network in them.

    Raises:
        HarnessError: There is no such network.
    """

    def __init__(self, settings: TwoStageSettings, name: str) -> None:
        super().__init__()
        network = settings.network_named(name)
        self.settings = settings
        self.backbone = Pyramid(network)
        self.proposal_generator = ProposalGenerator(network.fpn)
        self.roi_heads = CascadeHeads(network, settings.roi)

    def batch(self, images: Sequence[UInt8]) -> tuple[Tensor, list[Size]]:
        """Normalise images, (3, h, w) uint8 BGR, and pad them right and below to one size; return their own sizes too.

        The padding is 0 after the normalisation, and a multiple of the backbone's stride; the dtype is the weights'.
        """
        weight = next(self.parameters())
        device = weight.device
        own = self.settings.input
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (own.mean, own.std))
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        height, width = (-(-max(sides) // own.multiple) * own.multiple for sides in zip(*sizes, strict=True))
        padded = [
            F.pad((torch.from_numpy(image).to(device).float() - mean) / std, (0, width - w, 0, height - h))
            for image, (h, w) in zip(images, sizes, strict=True)
        ]
        return torch.stack(padded).to(weight.dtype), sizes

    def features(self, batch: Tensor) -> list[Tensor]:
        """Return P3 to P7 of a batch."""
        return self.backbone(batch)  # type: ignore[no-any-return]

    def heads(self, features: Sequence[Tensor]) -> FirstStage:
        """Return what the head of the first stage gives of P3 to P7."""
        return self.proposal_generator.centernet_head(features)  # type: ignore[no-any-return]

    def targets(self, features: Sequence[Tensor], truth: Sequence[Truth]) -> Targets:
        """Return the truth of the first stage for features of this size."""
        shapes = [(int(one.shape[2]), int(one.shape[3])) for one in features]
        return make_targets(self.settings.targets, shapes, [own.boxes for own in truth])

    def first_losses(self, heads: FirstStage, targets: Targets, average: Average = of_one_process) -> dict[str, Tensor]:
        """Return the losses of the first stage by their official names."""
        return first_stage_losses(self.settings.loss, heads, targets, average)

    def proposals(self, heads: FirstStage) -> list[Proposed]:
        """Return the proposals of each image in training."""
        return propose(self.settings.proposals, heads, training=True)

    def first_boxes(
        self,
        proposals: Sequence[Proposed],
        truth: Sequence[Truth],
        *,
        all_proposals: bool = False,
        generators: Sequence[torch.Generator | None] | None = None,
    ) -> list[Labelled]:
        """Return the boxes of each image that the first stage of the cascade is trained on; see `sample`."""
        drawn_by = [None] * len(truth) if generators is None else generators
        return [
            sample(self.settings.roi, found.boxes, own, all_proposals=all_proposals, generator=generator)
            for found, own, generator in zip(proposals, truth, drawn_by, strict=True)
        ]

    def step(
        self,
        images: Sequence[UInt8],
        truth: Sequence[Truth],
        *,
        all_proposals: bool = False,
        generators: Sequence[torch.Generator | None] | None = None,
        average: Average = of_one_process,
        forced: Sequence[list[Labelled]] | None = None,
    ) -> Step:
        """Compute the nine losses of a batch, and return all that leads to them.

        Args:
            images: (3, h, w) uint8 BGR.
            truth: Of each image.
            all_proposals: Whether the cascade is trained on all proposals; else some are drawn.
            generators: Source of the draw of each image, so that it hangs on the image and not on the process that has
                it; PyTorch's own by default.
            average: From a count of this process to its mean over all.
            forced: Boxes of every stage of the cascade, where they are not to be the model's own.
        """
        batch, sizes = self.batch(images)
        features = self.features(batch)
        heads = self.heads(features)
        targets = self.targets(features, truth)
        first = self.first_losses(heads, targets, average)
        proposals = self.proposals(heads)
        given = self.first_boxes(proposals, truth, all_proposals=all_proposals, generators=generators)
        stages, losses = self.roi_heads.step(features, given, truth, sizes, average, forced)
        return Step(batch, sizes, features, heads, targets, proposals, stages, {**losses, **first})

    @torch.no_grad()
    def forward(self, images: Sequence[UInt8]) -> list[Detections]:
        """Return the detections of each image, (3, h, w) uint8 BGR, in its own pixels."""
        batch, sizes = self.batch(images)
        features = self.features(batch)
        proposals = propose(self.settings.proposals, self.heads(features), training=False)
        fused = self.roi_heads.fused(features, proposals, sizes)
        return [
            detect(self.settings.detections, boxes, scores, size)
            for (boxes, scores), size in zip(fused, sizes, strict=True)
        ]


def detect(settings: TwoStageDetections, boxes: Tensor, scores: Tensor, size: Size) -> Detections:
    """Choose the detections of an image: threshold, NMS by class, and the surest of all classes.

    Args:
        settings: Threshold, NMS, number.
        boxes: (n, 4).
        scores: (n, classes + 1), the background last. Rows that are not finite are left out.
        size: (height, width) of the image.
    """
    finite = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    boxes, scores = clipped(boxes[finite], *size), scores[finite, :-1]
    rows, classes = (scores > settings.score_threshold).nonzero(as_tuple=True)
    kept = batched_nms(boxes[rows], scores[rows, classes], classes, settings.nms)[: settings.top_k]
    rows, classes = rows[kept], classes[kept]
    return Detections(boxes[rows].numpy(force=True), scores[rows, classes].numpy(force=True), classes.numpy(force=True))


def rescaled(found: Detections, size: Size, target: Size) -> Detections:
    """Return detections of an image of one (height, width) in the pixels of another; those without area are dropped."""
    scale = np.array([target[1] / size[1], target[0] / size[0]], np.float32)
    boxes = clipped(torch.from_numpy(found.boxes * np.tile(scale, 2)), *target)
    kept = has_area(boxes).numpy()
    return Detections(boxes.numpy()[kept], found.scores[kept], found.classes[kept])


def create_centernet2(name: str) -> CenterNet2:
    """Create a CenterNet2 with random weights, in training mode.

    Args:
        name: "r50", or "narrow": the same graph with fewer channels.

    Raises:
        HarnessError: There is no such network.
    """
    return CenterNet2(load_two_stage_settings(), name)


def training_step(
    model: CenterNet2,
    images: Sequence[UInt8],
    boxes: Sequence[Float32],
    classes: Sequence[NDArray[np.int64]],
    all_proposals: bool = False,
) -> dict[str, float]:
    """Run forward and backward, and leave the gradients in ``.grad``.

    Args:
        model: The detector, whose earlier gradients are removed.
        images: (3, h, w) uint8 BGR.
        boxes: (n, 4) float32 x1, y1, x2, y2 in pixels, of each image.
        classes: (n,) int64, of each image.
        all_proposals: Whether the cascade is trained on all proposals; else some are drawn at random.

    Returns:
        The losses by their official names.
    """
    model.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    truth = [
        Truth(torch.from_numpy(own).to(device).reshape(-1, 4), torch.from_numpy(which).to(device))
        for own, which in zip(boxes, classes, strict=True)
    ]
    losses = model.step(images, truth, all_proposals=all_proposals).losses
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {name: loss.item() for name, loss in losses.items()}
