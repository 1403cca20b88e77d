"""DLA-34: deep layer aggregation (Yu et al., https://arxiv.org/abs/1707.06484), the trunk of CenterNet.

Module names are those of the official checkpoints, so that they load strictly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (16, 32, 64, 128, 256, 512)
DEPTHS = (1, 1, 1, 2, 2, 1)
"""Depth of the tree of each level; levels 0 and 1 are plain convolutions."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual, which the caller may supply."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        result: Tensor = self.relu(out + (x if residual is None else residual))
        return result


class Root(nn.Module):
    """Join of the branches of a tree: concatenation and a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, *branches: Tensor) -> Tensor:
        """Branches (N, C_i, H, W) -> (N, out, H, W)."""
        result: Tensor = self.relu(self.bn(self.conv(torch.cat(branches, 1))))
        return result


class Tree(nn.Module):
    """One level of the aggregation: two subtrees whose outputs meet in a root."""

    def __init__(
        self,
        depth: int,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        level_root: bool = False,
        root_channels: int = 0,
    ) -> None:
        super().__init__()
        root_channels = root_channels or 2 * out_channels
        if level_root:
            root_channels += in_channels
        self.depth = depth
        self.level_root = level_root
        self.tree1: nn.Module
        self.tree2: nn.Module
        if depth == 1:
            self.tree1 = BasicBlock(in_channels, out_channels, stride)
            self.tree2 = BasicBlock(out_channels, out_channels)
            self.root = Root(root_channels, out_channels)
        else:
            self.tree1 = Tree(depth - 1, in_channels, out_channels, stride)
            self.tree2 = Tree(depth - 1, out_channels, out_channels, root_channels=root_channels + out_channels)
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        # The checkpoints hold a projection for deep trees too, though only that of depth 1 is used.
        self.project: nn.Module = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor, branches: tuple[Tensor, ...] = ()) -> Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride); `branches` join in the root."""
        bottom = self.downsample(x)
        if self.level_root:
            branches = (*branches, bottom)
        result: Tensor
        if self.depth == 1:
            x1 = self.tree1(x, self.project(bottom))
            result = self.root(self.tree2(x1), x1, *branches)
        else:
            x1 = self.tree1(x)
            result = self.tree2(x1, (*branches, x1))
        return result


class DLA34(nn.Module):
    """The trunk: six feature maps at strides 1, 2, 4, 8, 16, 32."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()

        def plain(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            )

        self.base_layer = plain(3, channels[0], 7, 1)
        self.level0 = plain(channels[0], channels[0], 3, 1)
        self.level1 = plain(channels[0], channels[1], 3, 2)
        for level in range(2, 6):
            tree = Tree(DEPTHS[level], channels[level - 1], channels[level], 2, level_root=level > 2)
            setattr(self, f"level{level}", tree)
        # The classifier is unused by detection, but a part of the official checkpoints.
        self.fc = nn.Conv2d(channels[-1], 1000, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> feature maps of the levels 0 to 5; H and W multiples of 32."""
        x = self.base_layer(x)
        features = []
        for level in range(6):
            x = getattr(self, f"level{level}")(x)
            features.append(x)
        return features
