"""The losses of a batch as a forward pass, which is what `DistributedDataParallel` wraps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.cards.centernet2 import TwoStageSettings
from harness.cards.recipe import StaticShapes
from harness.centernet2.labels import Size, Truth
from harness.centernet2.model import CenterNet2
from harness.centernet2.static import boxes_to_draw_from, static_inputs, static_step
from harness.types import UInt8


class PaddedCenterNet2(CenterNet2):
    """A CenterNet2 whose batches are all padded to one shape.

    Group norm sees the padding, which is why a recipe has to ask for it.
    """

    def __init__(self, settings: TwoStageSettings, name: str, shape: Size) -> None:
        super().__init__(settings, name)
        self.shape = shape

    def batch(self, images: Sequence[UInt8]) -> tuple[Tensor, list[Size]]:
        """Normalise images and pad them to the shape; return their own sizes too."""
        batch, sizes = super().batch(images)
        height, width = self.shape
        return F.pad(batch, (0, width - batch.shape[3], 0, height - batch.shape[2])), sizes


class Stepping(nn.Module):
    """The losses of a batch, computed as the official code does."""

    def __init__(self, model: CenterNet2, average: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.average = model, average

    def forward(
        self,
        images: list[UInt8],
        truth: list[Truth],
        generators: list[torch.Generator] | None,
        all_proposals: bool = False,
    ) -> dict[str, Tensor]:
        """Return the nine losses by name."""
        step = self.model.step(images, truth, all_proposals=all_proposals, generators=generators, average=self.average)
        return step.losses


class StaticStepping(Stepping):
    """The losses of a batch, computed without any shape that hangs on its objects and proposals.

    Args:
        model: The detector.
        average: From a count of this process to its mean over all.
        caps: Numbers of slots.

    Attributes:
        dropped: Proposals of the last batch for which there was no slot.
    """

    def __init__(self, model: CenterNet2, average: Callable[[Tensor], Tensor], caps: StaticShapes) -> None:
        super().__init__(model, average)
        self.caps = caps
        self.dropped = torch.zeros(())

    def forward(
        self,
        images: list[UInt8],
        truth: list[Truth],
        generators: list[torch.Generator] | None,
        all_proposals: bool = False,
    ) -> dict[str, Tensor]:
        """Return the nine losses by name.

        Raises:
            HarnessError: An image has more objects than slots.
        """
        inputs, keys = static_inputs(self.model, images, truth, self.caps), None
        if not all_proposals:
            count = boxes_to_draw_from(self.model, self.caps)
            drawn_by: Sequence[torch.Generator | None] = generators or [None] * len(images)
            keys = torch.stack([torch.rand(count, generator=one) for one in drawn_by]).to(inputs.batch.device)
        found = static_step(self.model, inputs, self.caps, self.average, keys)
        self.dropped = found.dropped.sum()
        return found.losses
