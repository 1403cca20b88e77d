"""Loss scale of a training in mixed precision: gradients too small for float16 are carried by a factor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from harness.errors import HarnessError
from harness.training.devices import TrainingDevice

FIRST, ADAPTING = 2.0**16, 2000
"""Scale that an adapting one begins with, and steps without overflow before it grows: PyTorch's defaults."""
STEADY = 2**31 - 1
"""Steps without overflow before a fixed scale would grow; no training has so many."""
LEAST = 2.0**-14
"""Scale below which no gradient of float16 is too large: what overflows still is not finite in itself."""


class LossScale:
    """A factor on the loss, by which the gradients are divided again; a step whose gradients overflow is left out.

    Args:
        device: That trains; it knows how an overflow shows.
        scale: The factor; 1 scales nothing, None adapts it to what overflows.
    """

    def __init__(self, device: TrainingDevice, scale: float | None) -> None:
        self.fixed = scale
        first, steady = (FIRST, ADAPTING) if scale is None else (scale, STEADY)
        self.scaler = torch.amp.GradScaler(enabled=False) if scale == 1 else device.make_scaler(first)
        self.scaler.set_growth_interval(steady)

    def backward(self, total: Tensor) -> None:
        """Compute the scaled gradients of a loss."""
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the factor, and note whether one of them has overflown."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Take the optimizer's step unless a gradient has overflown, and adapt the factor.

        Raises:
            HarnessError: Gradients overflow at any factor.
        """
        self.scaler.step(optimizer)
        self.scaler.update(self.fixed if self.scaler.is_enabled() else None)
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST:
            raise HarnessError(
                "gradients overflow whatever the loss scale: training has diverged",
                field="--loss-scale",
                remedy="train in another --precision, or lower base_lr on the recipe card",
            )

    def state(self) -> dict[str, Any]:
        """Return the factor and the steps since it last changed."""
        return self.scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Set what `state` gave."""
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
