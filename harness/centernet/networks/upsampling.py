"""The upsampling path of DLA-34 (`dla_up`), which both variants build from an aggregation of their own."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Aggregation = Callable[[int, list[int], list[int]], nn.Module]
"""Makes an aggregation (`ida`) from its output channels, the channels of its maps and their upsampling factors.

The module takes n maps from fine to coarse and returns n - 1 of the finest size.
"""


class Upsampling(nn.Module):
    """Aggregations from the coarsest pair of maps to the finest."""

    def __init__(self, channels: tuple[int, ...], aggregation: Aggregation) -> None:
        super().__init__()
        in_channels = list(channels)
        scales = [2**i for i in range(len(channels))]
        for i in range(len(channels) - 1):
            j = len(channels) - i - 2
            factors = [scale // scales[j] for scale in scales[j:]]
            self.add_module(f"ida_{i}", aggregation(channels[j], in_channels[j:], factors))
            scales[j + 1 :] = [scales[j]] * (i + 1)
            in_channels[j + 1 :] = [channels[j]] * (i + 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps from fine to coarse -> one aggregate for each size, from fine to coarse."""
        maps = list(maps)
        aggregates = [maps[-1]]
        for i in range(len(maps) - 1):
            maps[-i - 1 :] = getattr(self, f"ida_{i}")(maps[-i - 2 :])
            aggregates.insert(0, maps[-1])
        return aggregates
