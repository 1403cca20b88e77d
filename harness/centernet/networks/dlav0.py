"""`dlav0_34`: DLA-34 with plain convolutions in the upsampling path, no DCN."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.centernet.networks.dla import DLA34
from harness.centernet.networks.heads import HeadedNetwork, bilinear_upsampling
from harness.centernet.networks.upsampling import Upsampling


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, 1, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Aggregation(nn.Module):
    """Aggregation (`ida`): brings maps to the size and channels of the first, and joins them to it one by one."""

    def __init__(self, out_channels: int, in_channels: list[int], factors: list[int]) -> None:
        super().__init__()
        for i, (channels, factor) in enumerate(zip(in_channels, factors, strict=True)):
            same = channels == out_channels
            self.add_module(f"proj_{i}", nn.Identity() if same else _conv(channels, out_channels, 1))
            self.add_module(f"up_{i}", nn.Identity() if factor == 1 else bilinear_upsampling(out_channels, factor))
            if i:
                self.add_module(f"node_{i}", _conv(2 * out_channels, out_channels, 3))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps from fine to coarse -> the aggregate after each but the first, all of the finest size."""
        x, *others = [getattr(self, f"up_{i}")(getattr(self, f"proj_{i}")(m)) for i, m in enumerate(maps)]
        aggregates = []
        for i, other in enumerate(others, start=1):
            x = getattr(self, f"node_{i}")(torch.cat((x, other), 1))
            aggregates.append(x)
        return aggregates


class DLAv0(HeadedNetwork):
    """`dlav0_34` with heads."""

    def __init__(self, heads: Mapping[str, int], head_conv: int, channels: tuple[int, ...]) -> None:
        super().__init__(heads, channels[2], head_conv)
        self.base = DLA34(channels)
        self.dla_up = Upsampling(channels[2:], Aggregation)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H / 4, W / 4)."""
        result: Tensor = self.dla_up(self.base(x)[2:])[0]
        return result
