"""`dla_34`: DLA-34 with 16 DCNv2 layers in the upsampling path."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from harness.centernet.networks.dla import DLA34
from harness.centernet.networks.heads import HeadedNetwork, bilinear_upsampling
from harness.centernet.networks.upsampling import Upsampling
from harness.centernet.ops import DCNv2


class DeformConv(nn.Module):
    """DCNv2, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.actf = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        self.conv = DCNv2(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        result: Tensor = self.actf(self.conv(x))
        return result


class Aggregation(nn.Module):
    """Aggregation (`ida`): brings each map to the size and channels of the one before it, and adds it there."""

    def __init__(self, out_channels: int, in_channels: list[int], factors: list[int]) -> None:
        super().__init__()
        for i in range(1, len(in_channels)):
            self.add_module(f"proj_{i}", DeformConv(in_channels[i], out_channels))
            self.add_module(f"up_{i}", bilinear_upsampling(out_channels, factors[i]))
            self.add_module(f"node_{i}", DeformConv(out_channels, out_channels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps from fine to coarse -> the aggregate with each but the first, all of the finest size."""
        maps = list(maps)
        for i in range(1, len(maps)):
            upsampled = getattr(self, f"up_{i}")(getattr(self, f"proj_{i}")(maps[i]))
            maps[i] = getattr(self, f"node_{i}")(upsampled + maps[i - 1])
        return maps[1:]


class DLADCN(HeadedNetwork):
    """`dla_34` with heads."""

    def __init__(self, heads: Mapping[str, int], head_conv: int, channels: tuple[int, ...]) -> None:
        super().__init__(heads, channels[2], head_conv)
        self.base = DLA34(channels)
        self.dla_up = Upsampling(channels[2:], Aggregation)
        self.ida_up = Aggregation(channels[2], list(channels[2:5]), [1, 2, 4])

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H / 4, W / 4)."""
        aggregates = self.dla_up(self.base(x)[2:])
        # The official network computes the coarsest aggregate too, and leaves it unused.
        result: Tensor = self.ida_up(aggregates[:3])[-1]
        return result
