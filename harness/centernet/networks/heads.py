"""The heads of CenterNet, and the network that carries them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

HM_PRIOR = -2.19
"""Initial bias of the heatmap: every place starts at probability 0.1 (focal loss, Lin et al., section 4.1)."""


def make_head(in_channels: int, channels: int, head_conv: int) -> nn.Module:
    """Make a 3x3 convolution to `head_conv` channels, ReLU and 1x1 convolution; only the last if `head_conv` is 0."""
    if head_conv == 0:
        return nn.Conv2d(in_channels, channels, 1)
    return nn.Sequential(
        nn.Conv2d(in_channels, head_conv, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(head_conv, channels, 1)
    )


class HeadedNetwork(nn.Module):
    """A network with one output map at stride 4 and any heads on it."""

    def __init__(self, heads: Mapping[str, int], in_channels: int, head_conv: int) -> None:
        super().__init__()
        self.heads = dict(heads)
        for name, channels in self.heads.items():
            self.add_module(name, make_head(in_channels, channels, head_conv))
            if name == "hm":
                last = getattr(self, name)[-1] if head_conv else getattr(self, name)
                nn.init.constant_(last.bias, HM_PRIOR)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H / 4, W / 4)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> raw heads (N, channels, H / 4, W / 4) by name; H and W multiples of 32."""
        features = self.features(x)
        return {name: getattr(self, name)(features) for name in self.heads}


def bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Make a transposed convolution per channel that starts as bilinear interpolation by `factor`."""
    up = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False)
    centre = (2 * factor - 1 - factor % 2) / (2.0 * factor)
    ramp = 1 - (torch.arange(2 * factor) / factor - centre).abs()
    with torch.no_grad():
        up.weight.copy_(ramp[:, None] * ramp[None, :])
    return up
