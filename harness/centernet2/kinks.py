"""ReLUs whose input is so near to 0 that rounding decides on which side it falls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

RELUS = (torch.relu, F.relu, torch.Tensor.relu)


class RelusDecided(TorchFunctionMode):
    """Lets every ReLU within the context pass, or block, what lies within a band about 0.

    Args:
        band: Half the width of the band, as a share of the largest input of the ReLU.
        passes: Whether what lies within it passes.
    """

    def __init__(self, band: float, *, passes: bool) -> None:
        super().__init__()
        self.band, self.passes = band, passes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - of any function of PyTorch
        """Run a function; a ReLU by the context."""
        del types
        if func not in RELUS:
            return func(*args, **(kwargs or {}))
        (x,) = args
        width = self.band * x.detach().abs().max()
        return x * (x > (-width if self.passes else width))
